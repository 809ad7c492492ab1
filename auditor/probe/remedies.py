"""How the probe carries out a remedy: as the fields of a replay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from auditor.evidence import Location, Metric, Remedy, RemedyKind
from auditor.probe.experiments.reinitialized import redraw
from auditor.probe.experiments.standardized import at_place, standardization
from auditor.probe.locate import user_location
from auditor.probe.operations import short_name
from auditor.probe.parts.targets import REGRESSIONS
from auditor.probe.replay import NotRun

if TYPE_CHECKING:
    from auditor.probe.callchange import CallChange
    from auditor.probe.probe import Probe

SLOPE = 0.01  # of a leaky unit, for negative inputs: torch's own default
RELUS = ("relu", "relu_")
DIFFERENCES = ("sub", "__sub__", "__rsub__", "rsub")
ELEMENTWISE = (
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits", *DIFFERENCES
)  # fmt: skip
WEIGHED: dict[str, Callable[..., torch.Tensor]] = {
    "cross_entropy": functional.cross_entropy,
    "binary_cross_entropy_with_logits": functional.binary_cross_entropy_with_logits,
}


@dataclass
class Treatment:
    """Fields of the treated arm's Replay, and what makes the two arms' losses comparable."""

    fields: dict[str, Any] = field(default_factory=dict)
    unit: float = 1.0  # the loss as it is, divided by this, is in the unit of the treated one
    met: list[list[str]] = field(default_factory=list)  # of each change of calls: the first one that it concerned
    metric: Metric = "loss"  # of both arms; not the loss where the treatment changes its meaning


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
        whole.metric = one.metric if one.metric != "loss" else whole.metric
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


# --------------------------------------------------------------------------------------------------- the optimizer


def _amount(remedy: Remedy) -> float:
    if remedy.amount is None or not remedy.amount > 0:
        raise NotRun("the remedy does not say by how much")
    return remedy.amount


def _rate(probe: Probe, remedy: Remedy) -> Treatment:
    if probe.manual():
        raise NotRun("the weights are updated without a torch optimizer, whose rate could be changed")
    factor = _amount(remedy)
    return Treatment({"rate": lambda step: factor})


def _warm_up(probe: Probe, remedy: Remedy) -> Treatment:
    if probe.manual():
        raise NotRun("the weights are updated without a torch optimizer, whose rate could be changed")
    steps = _amount(remedy)
    return Treatment({"rate": lambda step: min(1.0, (step + 1) / steps)})


def _clip(probe: Probe, remedy: Remedy) -> Treatment:
    if probe.manual():
        raise NotRun("the weights are updated without a torch optimizer, before whose step gradients could be clipped")
    limit = _amount(remedy)

    def clip(step: int, parameters: list[torch.Tensor]) -> None:
        nn.utils.clip_grad_norm_(parameters, limit)

    return Treatment({"at_update": clip})


def _divide_loss(probe: Probe, remedy: Remedy) -> Treatment:
    divisor = _amount(remedy)

    def divide(step: int, parameters: list[torch.Tensor]) -> None:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.div_(divisor)

    return Treatment({"at_update": divide})


def _zero_gradients(probe: Probe, remedy: Remedy) -> Treatment:
    return Treatment({"zero_gradients": True})


def _hold_rate(probe: Probe, remedy: Remedy) -> Treatment:
    return Treatment({"peak_rate": True})


def _add_parameters(probe: Probe, remedy: Remedy) -> Treatment:
    stepped = probe.program.stepped()
    ownership = probe.collectors.find("ownership")
    forgotten = ownership.forgotten() if ownership is not None else []
    if probe.manual() or not stepped or not forgotten:
        raise NotRun("there is no optimizer, or no parameter that it lacks")
    optimizer = stepped[0].optimizer
    kept = [parameter.detach().clone() for parameter in forgotten]

    def prepare() -> None:
        options = {key: value for key, value in optimizer.param_groups[-1].items() if key != "params"}
        optimizer.add_param_group({**options, "params": forgotten})

    def undo() -> None:
        optimizer.param_groups[:] = [g for g in optimizer.param_groups if g["params"][0] is not forgotten[0]]
        for parameter, value in zip(forgotten, kept, strict=True):
            optimizer.state.pop(parameter, None)
            parameter.data.copy_(value)

    return Treatment({"prepare": prepare, "undo": undo})


def _no_penalty(probe: Probe, remedy: Remedy) -> Treatment:
    return Treatment({"weight_decay": False, "penalty": False}, metric="loss of the data")


# --------------------------------------------------------------------------------------------------- the data


def _standardize_inputs(probe: Probe, remedy: Remedy) -> Treatment:
    collector = probe.inputs()
    if collector is None:
        raise NotRun("the model has no floating-point input")
    inputs, stream, prepared = collector.summary(), collector.chosen, collector.prepared()
    if inputs.nonfinite:
        raise NotRun("the inputs are not finite, so they have no mean")
    layer, mean, std = prepared if prepared is not None else (None, *stream.moments())
    change = standardization(inputs.shape, stream.axis, mean, std)
    if inputs.further:
        return Treatment({"call_change": at_place(stream.place, change)})
    return Treatment({"input_change": change, "changed_layer": layer})


def _standardize_targets(probe: Probe, remedy: Remedy) -> Treatment:
    collector = probe.collectors.find("targets")
    moments = collector.moments() if collector is not None else None
    if moments is None or moments[1] == 0:
        raise NotRun("no regression loss of torch was called with targets of the data that differ")
    if not probe.loss_facts().covers_loss():
        raise NotRun("the loss is more than the regression loss, so that its arms cannot be brought to one unit")
    mean, std = moments

    def change(target: torch.Tensor) -> torch.Tensor:
        return (target - mean) / std if target.is_floating_point() else target

    return Treatment({"target_change": change}, unit=std ** REGRESSIONS[collector.call.name])


def _match_shapes(probe: Probe, remedy: Remedy) -> Treatment:
    def change(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name not in ELEMENTWISE or len(args) < 2 or not all(isinstance(each, torch.Tensor) for each in args[:2]):
            return NotImplemented
        prediction, target = args[:2]
        if prediction.shape == target.shape or prediction.numel() != target.numel():
            return NotImplemented
        if name in DIFFERENCES and not _is_at(remedy.site, user_location()):
            return NotImplemented
        return function(prediction, target.reshape(prediction.shape), *args[2:], **kwargs)

    return _changing(change)


def _log_probabilities(probe: Probe, remedy: Remedy) -> Treatment:
    def change(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name != "nll_loss" or not args or args[0].dim() < 2:
            return NotImplemented
        given = args[0]
        sums = given.detach().sum(1)
        shares = bool((given.detach() >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all())
        logs = given.clamp(min=1e-12).log() if shares else functional.log_softmax(given, dim=1)
        return function(logs, *args[1:], **kwargs)

    return _changing(change, metric="error rate")


def _class_weights(probe: Probe, remedy: Remedy) -> Treatment:
    weights = probe.class_weights()
    if weights is None:
        raise NotRun("the loss has no class labels, or only one class was seen")

    def change(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        logits = args[0] if args else kwargs.get("input")
        if name not in WEIGHED or len(args) > 2 or not isinstance(logits, torch.Tensor):
            return NotImplemented
        if name == "binary_cross_entropy_with_logits" and weights.numel() == 2 and kwargs.get("pos_weight") is None:
            return WEIGHED[name](*args, **{**kwargs, "pos_weight": (weights[1] / weights[0]).to(logits)})
        fits = name == "cross_entropy" and logits.dim() > 1 and logits.shape[1] == weights.numel()
        if not fits or kwargs.get("weight") is not None:
            return NotImplemented
        return WEIGHED[name](*args, **{**kwargs, "weight": weights.to(logits)})

    return _changing(change, metric="balanced error rate")


# --------------------------------------------------------------------------------------------------- the model


def _reinitialize(probe: Probe, remedy: Remedy) -> Treatment:
    collector = probe.collectors.find("forward_scale")
    if collector is None or len(collector.activations) != len(collector.modules):
        raise NotRun("the layers' outputs were not measured")
    names = probe.program.module_names()
    wanted = set(remedy.layers)
    chosen = [module for module in collector.modules if names.get(id(module)) in wanted] if wanted else None
    cells = [cell for cell in collector.recurrent if not wanted or names.get(id(cell)) in wanted]
    if not cells and not (collector.modules if chosen is None else chosen):
        raise NotRun("none of these layers is linear, convolutional or recurrent")
    return Treatment({"prepare": redraw(collector, chosen, cells, zeros=bool(wanted))})


def _leaky_units(probe: Probe, remedy: Remedy) -> Treatment:
    def change(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        first = args[0] if args else kwargs.get("input")
        if name not in RELUS or not isinstance(first, torch.Tensor):
            return NotImplemented
        return functional.leaky_relu(first, SLOPE)

    return _changing(change)


def _leave_out(probe: Probe, remedy: Remedy) -> Treatment:
    whole = _at_site(probe, remedy, remedy.subject, lambda function, first: first)
    if _is_regression(probe):  # whose loss means the same of any output
        whole.metric = "loss"
    return whole


def _is_regression(probe: Probe) -> bool:
    targets = probe.collectors.find("targets")
    return targets is not None and targets.moments() is not None and probe.class_weights() is None


def _sigmoid(probe: Probe, remedy: Remedy) -> Treatment:
    return _at_site(probe, remedy, "softmax", lambda function, first: torch.sigmoid(first))


def _softmax_axis(probe: Probe, remedy: Remedy) -> Treatment:
    axis = int(remedy.amount if remedy.amount is not None else -1)
    return _at_site(probe, remedy, remedy.subject or "softmax", lambda function, first: _along(function, first, axis))


def _along(function: Any, first: torch.Tensor, axis: int) -> Any:
    return functional.log_softmax(first, dim=axis) if "log" in short_name(function) else torch.softmax(first, dim=axis)


def _at_site(
    probe: Probe, remedy: Remedy, subject: str, instead: Callable[[Any, torch.Tensor], torch.Tensor]
) -> Treatment:
    """Something instead of the calls of `subject` at the user's line, be it the call's own or that of its module."""
    site, names = remedy.site, {subject, f"{subject}_"}
    if site is None or not subject:
        raise NotRun("it is not known which call it concerns")

    def change(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        first = args[0] if args else kwargs.get("input")
        if name not in names or not isinstance(first, torch.Tensor):
            return NotImplemented
        called, module = user_location(), probe.calls.stack[-1] if probe.calls.stack else None
        built = probe.program.location_of(module) if module is not None else None
        return instead(function, first) if _is_at(site, called) or _is_at(site, built) else NotImplemented

    return _changing(change, metric="error rate")


def _is_at(site: Location | None, place: Location | None) -> bool:
    return site is not None and place is not None and (site.file, site.line) == (place.file, place.line)


def _changing(change: CallChange, metric: Metric = "loss") -> Treatment:
    """Counts the calls that it meets: a change of calls that never come is no trial."""
    met: list[str] = []

    def counted(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = change(name, function, args, kwargs)
        if result is not NotImplemented and not met:
            met.append(name)
        return result

    return Treatment({"calls": counted}, metric=metric, met=[met])


def _shuffle(probe: Probe, remedy: Remedy) -> Treatment:
    raise NotRun("the order of the samples is compared by an experiment of its own, which did not run")


def _training_mode(probe: Probe, remedy: Remedy) -> Treatment:
    return Treatment({"mode": lambda step: True})


def _no_dropout(probe: Probe, remedy: Remedy) -> Treatment:
    return Treatment({"dropout": False})


_HOW: dict[RemedyKind, Callable[[Probe, Remedy], Treatment]] = {
    RemedyKind.RATE: _rate,
    RemedyKind.WARM_UP: _warm_up,
    RemedyKind.CLIP: _clip,
    RemedyKind.DIVIDE_LOSS: _divide_loss,
    RemedyKind.ZERO_GRADIENTS: _zero_gradients,
    RemedyKind.NO_PENALTY: _no_penalty,
    RemedyKind.STANDARDIZE_INPUTS: _standardize_inputs,
    RemedyKind.STANDARDIZE_TARGETS: _standardize_targets,
    RemedyKind.CLASS_WEIGHTS: _class_weights,
    RemedyKind.REINITIALIZE: _reinitialize,
    RemedyKind.LEAKY_UNITS: _leaky_units,
    RemedyKind.LEAVE_OUT: _leave_out,
    RemedyKind.SIGMOID: _sigmoid,
    RemedyKind.SOFTMAX_AXIS: _softmax_axis,
    RemedyKind.LOG_PROBABILITIES: _log_probabilities,
    RemedyKind.MATCH_SHAPES: _match_shapes,
    RemedyKind.ADD_PARAMETERS: _add_parameters,
    RemedyKind.HOLD_RATE: _hold_rate,
    RemedyKind.SHUFFLE: _shuffle,
    RemedyKind.TRAINING_MODE: _training_mode,
    RemedyKind.NO_DROPOUT: _no_dropout,
}
