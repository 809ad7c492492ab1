"""Remedies that take more than a mechanical edit, and why."""

from __future__ import annotations

from auditor.edits.changes import Change, NoEdit
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind

_REASONS = {
    RemedyKind.WARM_UP: "a warm-up needs a scheduler that fits the loop and those that it may have",
    RemedyKind.GUARD: "how small a value may be is for you to decide",
    RemedyKind.CLEAN_INPUTS: "what stands for a missing value is for you to decide",
    RemedyKind.STANDARDIZE_TARGETS: "what is computed from the outputs has to be scaled back",
    RemedyKind.REINITIALIZE: "weights are drawn where the model is built, in a way that fits each layer",
    RemedyKind.HOLD_RATE: "the scheduler has to be given the steps that it really takes",
}


@writes(*_REASONS)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    raise NoEdit(_REASONS[remedy.kind])
