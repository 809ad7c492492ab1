"""NO_PENALTY: the optimizer's weight decay becomes zero."""

from __future__ import annotations

from auditor.edits.arguments import added, argument
from auditor.edits.changes import Change, NoEdit
from auditor.edits.definitions import Literal, literal_behind
from auditor.edits.optimizers import constructed_at, group_settings, kind_of
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind

_DECAY_BY_DEFAULT = ("AdamW", "Muon")


@writes(RemedyKind.NO_PENALTY)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    """`subject` is "loss" where terms of the loss are meant: which ones they are cannot be read off a line."""
    if remedy.subject:
        raise NoEdit("the terms of the loss that are to be weaker are not known by their lines")
    call = constructed_at(source, site.line)
    literals = [literal_behind(source, value) for value in group_settings(source, call, "weight_decay")]
    decay = argument(call, "weight_decay")
    if decay is not None:
        literals.append(literal_behind(source, decay.value))
    changes = tuple(source.replaced(literal, "0.0") for literal in literals if not _is_zero(literal))
    if decay is None and kind_of(source, call) in _DECAY_BY_DEFAULT:
        changes += added(source, call, "weight_decay=0.0")
    if not changes:
        raise NoEdit("the optimizer has no weight decay")
    return changes


def _is_zero(literal: Literal) -> bool:
    return not float(literal.evaluated_value)
