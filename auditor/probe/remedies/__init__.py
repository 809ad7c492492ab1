"""How the probe carries out a remedy: as the fields of a replay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from auditor.evidence import Remedy, RemedyKind
from auditor.probe.callchange import CallChange
from auditor.probe.remedies import (
    answers,
    axes,
    calls,
    data,
    guards,
    heldout,
    labels,
    layers,
    losses,
    padding,
    scales,
    schedule,
    tied,
    updates,
    weights,
)
from auditor.probe.remedies.treatment import Treatment
from auditor.probe.replay import NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

__all__ = ["Treatment", "treatment"]

_HOW: dict[RemedyKind, Callable[[Probe, Remedy], Treatment]] = {
    RemedyKind.RATE: updates.rate,
    RemedyKind.WARM_UP: updates.warm_up,
    RemedyKind.CLIP: updates.clip_gradients,
    RemedyKind.DIVIDE_LOSS: updates.divide_loss,
    RemedyKind.ZERO_GRADIENTS: updates.zero_gradients,
    RemedyKind.NO_AUXILIARY: updates.no_auxiliary,
    RemedyKind.NO_PENALTY: updates.no_penalty,
    RemedyKind.STANDARDIZE_INPUTS: data.standardize_inputs,
    RemedyKind.STANDARDIZE_TARGETS: data.standardize_targets,
    RemedyKind.CLASS_WEIGHTS: losses.class_weights,
    RemedyKind.REINITIALIZE: weights.reinitialize,
    RemedyKind.LEAKY_UNITS: calls.leaky_units,
    RemedyKind.LEAVE_OUT: calls.leave_out,
    RemedyKind.SIGMOID: calls.sigmoid,
    RemedyKind.SOFTMAX_AXIS: calls.softmax_axis,
    RemedyKind.LOG_PROBABILITIES: losses.log_probabilities,
    RemedyKind.GUARD: guards.guard,
    RemedyKind.MATCH_SHAPES: losses.match_shapes,
    RemedyKind.ADD_PARAMETERS: updates.add_parameters,
    RemedyKind.HOLD_RATE: updates.hold_rate,
    RemedyKind.STEP_SCHEDULE: schedule.step_schedule,
    RemedyKind.SHUFFLE: data.shuffle,
    RemedyKind.CLEAN_INPUTS: data.clean_inputs,
    RemedyKind.FULL_PRECISION: weights.full_precision,
    RemedyKind.EVALUATION_MODE: answers.evaluation_mode,
    RemedyKind.QUIET_EVALUATION: answers.quiet_evaluation,
    RemedyKind.CAUSAL_MASK: answers.causal_mask,
    RemedyKind.PADDING_MASK: answers.padding_mask,
    RemedyKind.IGNORE_LABELS: labels.ignore_labels,
    RemedyKind.IGNORE_PADDING: padding.ignore_padding,
    RemedyKind.SHIFT_LABELS: labels.shift_labels,
    RemedyKind.REPAIR_LABELS: labels.repair_labels,
    RemedyKind.KEEP_GRAPH: calls.keep_graph,
    RemedyKind.CLIP_UNSCALED: updates.clip_unscaled,
    RemedyKind.PAIRED_METRIC: answers.paired_metric,
    RemedyKind.NONLINEARITY: calls.nonlinearity,
    RemedyKind.TRAINING_MODE: weights.training_mode,
    RemedyKind.SCALE_LOSS: scales.scale_loss,
    RemedyKind.ONE_SCALE: scales.one_scale,
    RemedyKind.TIE_WEIGHTS: tied.tie_weights,
    RemedyKind.NO_DROPOUT: weights.no_dropout,
    RemedyKind.BATCH_FIRST: axes.batch_first,
    RemedyKind.SWAP_AXES: axes.swap_axes,
    RemedyKind.OWN_DERIVATIVE: layers.own_derivative,
    RemedyKind.GROUP_NORM: layers.group_norm,
    RemedyKind.NO_SINGLE_NORMS: layers.no_single_norms,
    RemedyKind.LEARN_LAYERS: updates.learn_layers,
    RemedyKind.FROZEN_NORMS: layers.frozen_norms,
    RemedyKind.RELU_UNITS: layers.relu_units,
    RemedyKind.DROP_KNOWN: heldout.drop,
    RemedyKind.DROP_TWINS: heldout.drop,
    RemedyKind.DROP_GROUPS: heldout.drop,
}


def treatment(probe: Probe, remedies: Sequence[Remedy]) -> Treatment:
    """All of them at once. Raises NotRun where one of them cannot be carried out in this loop."""
    whole = Treatment()
    for remedy in remedies:
        one = _HOW[remedy.kind](probe, remedy)
        for name, value in one.fields.items():
            before = whole.fields.get(name)
            whole.fields[name] = value if before is None else _both(name, before, value)
        whole.unit *= one.unit
        whole.met += one.met
        if whole.metric != "loss" and one.metric not in ("loss", whole.metric):
            raise NotRun("the two changes cannot be measured by one figure")
        if (one.gauge is not None or one.contamination is not None) and len(remedies) > 1:
            raise NotRun("it is measured beside the loop, by itself")
        whole.otherwise = one.otherwise if one.metric != "loss" else whole.otherwise
        whole.metric = one.metric if one.metric != "loss" else whole.metric
        whole.shared |= one.shared
        whole.gauge = one.gauge or whole.gauge
        whole.contamination = one.contamination or whole.contamination
    return whole


def _both(name: str, first: Any, second: Any) -> Any:
    """Two changes of one kind, one after the other."""
    if name == "rate":
        return lambda step: first(step) * second(step)
    if name == "prepare":
        return lambda: (first(), second())[0]
    if name == "at_update":
        return lambda step, parameters: (first(step, parameters), second(step, parameters))[0]
    if name == "calls":
        return _either(first, second)
    if first == second:
        return first
    raise NotRun("the two changes cannot be made at the same time")


def _either(first: CallChange, second: CallChange) -> CallChange:
    def change(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = first(name, function, args, kwargs)
        return second(name, function, args, kwargs) if result is NotImplemented else result

    return change
