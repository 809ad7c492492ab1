"""Where in the source a remedy is to be written, and with which numbers: what its rule leaves open."""

from __future__ import annotations

from typing import Any

from auditor.evidence import Evidence, Inputs, Labels, Location, Modes, Program, Remedy, RemedyKind

_WHERE_BUILT = (
    RemedyKind.RATE,
    RemedyKind.WARM_UP,
    RemedyKind.NO_PENALTY,
    RemedyKind.ADD_PARAMETERS,
    RemedyKind.HOLD_RATE,
)
_WHERE_BACKWARD_IS = (RemedyKind.ZERO_GRADIENTS, RemedyKind.DIVIDE_LOSS, RemedyKind.TRAINING_MODE)


def placed(remedy: Remedy, finding: Location | None, evidence: Evidence) -> Remedy:
    """The remedy with a site, by default that of its finding, and with the numbers that were measured."""
    new: dict[str, Any] = {}
    if remedy.site is None:
        new["site"] = _evaluated(remedy.kind, evidence.modes) or _site(remedy.kind, evidence.program) or finding
    if remedy.kind is RemedyKind.STANDARDIZE_INPUTS and not remedy.mean:
        new |= _moments(evidence.inputs)
    if remedy.kind is RemedyKind.CLASS_WEIGHTS and not remedy.values:
        new["values"] = _weights(evidence.labels)
    return remedy.model_copy(update=new)


def _site(kind: RemedyKind, program: Program | None) -> Location | None:
    """None where it is not certain."""
    if program is None:
        return None
    if kind in _WHERE_BACKWARD_IS:
        return program.loss_location
    stepped = [each for each in program.optimizers if each.steps > 0]
    if len(stepped) != 1:
        return None
    if kind in _WHERE_BUILT:
        return stepped[0].location
    return stepped[0].step_location if kind is RemedyKind.CLIP else None


def _evaluated(kind: RemedyKind, modes: Modes | None) -> Location | None:
    """Where a model is first evaluated in training mode."""
    if kind is not RemedyKind.EVALUATION_MODE or modes is None:
        return None
    return next((each.evaluation_location for each in modes.models if each.train_mode_evaluations), None)


def _moments(inputs: Inputs | None) -> dict[str, Any]:
    """Per channel of the images, or that it is a table without constant columns; not where the model changes it."""
    if inputs is None or inputs.further or inputs.prepared or not inputs.channels:
        return {}
    if inputs.kind == "image":
        means, stds = zip(*((each.mean, each.std) for each in inputs.channels), strict=True)
        return {"mean": means, "std": stds}
    whole = len(inputs.shape) == 2 and len(inputs.channels) == inputs.shape[1]
    varied = all(each.std > 1e-6 * abs(each.mean) for each in inputs.channels)
    return {"subject": "table"} if inputs.kind == "features" and whole and varied else {}


def _weights(labels: Labels | None) -> tuple[float, ...]:
    """Inverse to how often each class was seen; () where one was not."""
    if labels is None or len(labels.counts) < 2 or not all(count > 0 for count in labels.counts):
        return ()
    return tuple(sum(labels.counts) / len(labels.counts) / count for count in labels.counts)
