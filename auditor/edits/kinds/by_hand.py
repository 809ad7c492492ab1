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
    RemedyKind.CLIP_UNSCALED: "`scaler.unscale_(optimizer)` belongs before the clipping, once an update",
    RemedyKind.PAIRED_METRIC: "which of the two shapes is to change is for you to decide",
    RemedyKind.NO_AUXILIARY: "how much the term is to weigh is for you to decide",
    RemedyKind.REPAIR_LABELS: "what the labels outside of 0 to 1 mean is for you to say",
    RemedyKind.KEEP_GRAPH: "why the graph was cut there is for you to say",
    RemedyKind.PADDING_MASK: "which way round the mask is, and how it gets there, differs from model to model",
    RemedyKind.SHIFT_LABELS: "in which of the places that could shift it belongs is for you to decide",
    RemedyKind.NONLINEARITY: "which nonlinearity it is, and whether the layers are needed, is for you to decide",
    RemedyKind.IGNORE_PADDING: "which positions are padding is told in a way of each script's own",
    RemedyKind.STEP_SCHEDULE: "the schedule belongs into the loop over the batches, behind the update",
    RemedyKind.SWAP_AXES: "`transpose` or `permute` takes the place of the view, and what follows may want a copy",
    RemedyKind.OWN_DERIVATIVE: "which of the two, forward or backward, is wrong is for you to decide",
    RemedyKind.GROUP_NORM: "how many groups, or larger batches instead, is for you to decide",
    RemedyKind.NO_SINGLE_NORMS: "over which axis it was meant to go is for you to say",
    RemedyKind.LEARN_LAYERS: "which layers are to stay frozen is for you to say",
    RemedyKind.FROZEN_NORMS: "they go into evaluation mode wherever the model goes into training mode",
    RemedyKind.RELU_UNITS: "which activation takes their place is for you to decide",
    RemedyKind.SCALE_LOSS: "a GradScaler takes three calls, and one for each clipping",
    RemedyKind.ONE_SCALE: "which call of the GradScaler is missing is for you to see",
    RemedyKind.TIE_WEIGHTS: "they are to be tied behind everything that replaces parameters",
    RemedyKind.DROP_KNOWN: "where the data are split, and which part keeps the sample, is for you to decide",
    RemedyKind.DROP_TWINS: "where the data are split, and which part keeps the original, is for you to decide",
    RemedyKind.DROP_GROUPS: "where the data are split, and which part keeps the group, is for you to decide",
    RemedyKind.HOLD_RATE: "the scheduler has to be given the steps that it really takes",
}


@writes(*_REASONS)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    raise NoEdit(_REASONS[remedy.kind])
