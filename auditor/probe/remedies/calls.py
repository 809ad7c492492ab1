"""Remedies of single calls: left out, or something else instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from auditor.evidence import Remedy
from auditor.probe.locate import user_location
from auditor.probe.losscall import LossCall
from auditor.probe.operations import short_name
from auditor.probe.remedies.treatment import Treatment, changing, is_at
from auditor.probe.replay import NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

SLOPE = 0.01  # of a leaky unit, for negative inputs: torch's own default
RELUS = ("relu", "relu_")


def leaky_units(probe: Probe, remedy: Remedy) -> Treatment:
    def change(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        first = args[0] if args else kwargs.get("input")
        if name not in RELUS or not isinstance(first, torch.Tensor):
            return NotImplemented
        return functional.leaky_relu(first, SLOPE)

    return changing(change)


def leave_out(probe: Probe, remedy: Remedy) -> Treatment:
    """A loss that was given probabilities is another one without: the model's own probabilities are compared."""
    treatment = _at_site(probe, remedy, remedy.subject, lambda function, first: first)
    if "softmax" in remedy.subject:
        treatment.metric, treatment.otherwise = "log loss", "error rate"
        treatment.shared["measure"] = log_loss
    return treatment


def log_loss(call: LossCall) -> torch.Tensor | None:
    """Negative log-likelihood of what the model gives as its answer: probabilities, or logits where it gives these."""
    if not call.class_labels or call.input.dim() < 2:
        return None
    outputs, labels = call.flat()
    outputs = outputs.float()
    given = bool((outputs >= 0).all()) and bool(((outputs.sum(1) - 1).abs() < 1e-3).all())
    logs = outputs.clamp(min=1e-12).log() if given else functional.log_softmax(outputs, dim=1)
    return functional.nll_loss(logs, labels, ignore_index=call.ignore_index)


def keep_graph(probe: Probe, remedy: Remedy) -> Treatment:
    if remedy.subject == "no_grad":
        return changing(lambda name, function, args, kwargs: _with_graph(probe, name, function, args, kwargs))
    if remedy.subject not in ("detach", "data") or remedy.site is None:
        raise NotRun(f"{remedy.subject or 'what cuts it'} leaves torch, where no graph can follow")

    def change(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not _cuts(name, function) or not args or not is_at(remedy.site, user_location()):
            return NotImplemented
        return args[0]

    return changing(change)


def _cuts(name: str, function: Any) -> bool:
    return name in ("detach", "detach_") or function is torch.Tensor.data.__get__  # type: ignore[attr-defined]


def _with_graph(probe: Probe, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Inside of modules alone: an optimizer changes weights in place, and means it. What switches gradients is a call
    like others."""
    if "grad_enabled" in name or torch.is_grad_enabled() or not probe.calls.stack or not probe.calls.stack[-1].training:
        return NotImplemented
    with torch.enable_grad():
        return function(*args, **kwargs)


def sigmoid(probe: Probe, remedy: Remedy) -> Treatment:
    return _at_site(probe, remedy, "softmax", lambda function, first: torch.sigmoid(first))


def softmax_axis(probe: Probe, remedy: Remedy) -> Treatment:
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
        return instead(function, first) if is_at(site, called) or is_at(site, built) else NotImplemented

    return changing(change, metric="error rate")


def nonlinearity(probe: Probe, remedy: Remedy) -> Treatment:
    names, wanted = probe.program.module_names(), set(remedy.layers)
    models = [model for _, model in probe.program.models()]
    layers = [module for model in models for module in model.modules() if names.get(id(module)) in wanted]
    if not layers:
        raise NotRun("none of these layers is a module of its own")
    handles: list[Any] = []

    def prepare() -> None:
        handles.extend(
            layer.register_forward_hook(lambda _layer, _args, result: _rectified(result)) for layer in layers
        )

    def undo() -> None:
        for handle in handles:
            handle.remove()
        handles.clear()

    return Treatment({"prepare": prepare, "undo": undo})


def _rectified(result: Any) -> Any:
    return torch.relu(result) if isinstance(result, torch.Tensor) else result
