"""backward(), the loss scale, and gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from auditor.probe.locate import construction_location, user_location
from auditor.probe.probe import Probe
from auditor.probe.savedtensors import hooks_entered
from auditor.probe.taps.patching import replace, wrap


def install(probe: Probe) -> None:
    # Tensor.backward looks torch.autograd.backward up at each call, so one patch sees both.
    wrap(torch.autograd, "backward", lambda original: _backward(probe, original))
    wrap(torch.autograd, "grad", lambda original: _grad(probe, original))
    for name in ("clip_grad_norm_", "clip_grad_value_"):
        wrap(torch.nn.utils.clip_grad, name, lambda original, name=name: _clip(probe, name, original))  # type: ignore[misc]
        replace(torch.nn.utils, name, getattr(torch.nn.utils.clip_grad, name))
    wrap(torch.autograd.graph.saved_tensors_hooks, "__enter__", _packing)
    wrap(torch.amp.GradScaler, "__init__", lambda original: _scaler_built(probe, original))
    wrap(torch.amp.GradScaler, "scale", lambda original: _scale(probe, original))
    wrap(torch.amp.GradScaler, "step", lambda original: _scaler_step(probe, original))
    wrap(torch.amp.GradScaler, "update", lambda original: _scaler_update(probe, original))
    wrap(torch.amp.GradScaler, "unscale_", lambda original: _unscale(probe, original))


def _packing(original: Callable[..., Any]) -> Callable[..., Any]:
    def enter(self: Any) -> Any:
        hooks_entered()
        return original(self)

    return enter


def _backward(probe: Probe, original: Callable[..., None]) -> Callable[..., None]:
    def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
        if not probe.alive() or probe.loop.in_backward:
            probe.maybe_elsewhere()
            return original(tensors, *args, **kwargs)
        roots = (tensors,) if isinstance(tensors, torch.Tensor) else tuple(tensors)
        probe.backward_begins(roots, user_location())
        probe.loop.in_backward = True
        try:
            probe.run_backward(lambda: original(tensors, *args, **kwargs), roots)
        finally:
            probe.loop.in_backward = False
        probe.backward_ended()
        return None

    return backward


def _grad(probe: Probe, original: Callable[..., Any]) -> Callable[..., Any]:
    """A loop without optimizers may take its gradients from here instead of from .grad. With respect to anything but
    parameters it is no training: gradient penalties, adversarial examples."""

    def grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if not probe.alive() or probe.loop.in_backward or not probe.manual() or not _are_parameters(inputs):
            probe.maybe_elsewhere()
            return original(outputs, inputs, *args, **kwargs)
        roots = (outputs,) if isinstance(outputs, torch.Tensor) else tuple(outputs)
        probe.backward_begins(roots, user_location())
        probe.loop.in_backward = True
        try:
            gradients = original(outputs, inputs, *args, **kwargs)
        finally:
            probe.loop.in_backward = False
        with _attached(inputs, gradients):
            probe.backward_ended()
        return gradients

    return grad


@contextmanager
def _attached(inputs: Any, gradients: Any) -> Iterator[None]:
    """Inside, the gradients are where collectors look for them."""
    parameters = (inputs,) if isinstance(inputs, torch.Tensor) else tuple(inputs)
    before = [parameter.grad for parameter in parameters]
    for parameter, gradient in zip(parameters, gradients, strict=False):
        parameter.grad = None if gradient is None else gradient.detach()
    try:
        yield
    finally:
        for parameter, kept in zip(parameters, before, strict=True):
            parameter.grad = kept


def _are_parameters(inputs: Any) -> bool:
    given = (inputs,) if isinstance(inputs, torch.Tensor) else tuple(inputs)
    return bool(given) and all(isinstance(tensor, torch.nn.Parameter) for tensor in given)


def _clip(probe: Probe, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    kind, limit_name = ("norm", "max_norm") if name == "clip_grad_norm_" else ("value", "clip_value")

    def clip(*args: Any, **kwargs: Any) -> Any:
        given = {**dict(zip(("parameters", limit_name), args, strict=False)), **kwargs}
        if not probe.alive() or not {"parameters", limit_name} <= given.keys():
            return original(*args, **kwargs)
        parameters = given["parameters"]
        if not isinstance(parameters, torch.Tensor | list | tuple):
            parameters = list(parameters)  # model.parameters() can be read but once
            args, kwargs = ((parameters, *args[1:]), kwargs) if args else (args, {**kwargs, "parameters": parameters})
        if probe.clip_begins(kind, parameters, given[limit_name]):
            args, kwargs = (parameters,), {**given, limit_name: math.inf}
            del kwargs["parameters"]
        result = original(*args, **kwargs)
        if probe.alive():
            probe.clipped(kind, given[limit_name], result, user_location())
        return result

    return clip


def _scaler_built(probe: Probe, original: Callable[..., None]) -> Callable[..., None]:
    def init(scaler: Any, *args: Any, **kwargs: Any) -> None:
        original(scaler, *args, **kwargs)
        if probe.alive() and scaler.is_enabled():
            probe.program.scaler_built(scaler, construction_location(scaler))

    return init


def _scale(probe: Probe, original: Callable[..., Any]) -> Callable[..., Any]:
    def scale(scaler: Any, outputs: Any) -> Any:
        result = original(scaler, outputs)
        if probe.alive() and isinstance(outputs, torch.Tensor) and isinstance(result, torch.Tensor):
            probe.loop.scaled(outputs, result)
            if scaler.is_enabled():
                probe.loop_call("scale", scaler)
        return result

    return scale


def _scaler_step(probe: Probe, original: Callable[..., Any]) -> Callable[..., Any]:
    def step(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        before = probe.loop.updates
        enabled = probe.alive() and scaler.is_enabled()
        if enabled:
            probe.loop_call("scaler_step", optimizer)
        result = original(scaler, optimizer, *args, **kwargs)
        if enabled:
            probe.loop_call("scaler_stepped", optimizer)
        if probe.alive() and probe.loop.updates == before:
            probe.step_skipped(optimizer)
        return result

    return step


def _scaler_update(probe: Probe, original: Callable[..., Any]) -> Callable[..., Any]:
    def update(scaler: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(scaler, *args, **kwargs)
        if probe.alive() and scaler.is_enabled():
            probe.loop_call("scaler_update", scaler)
        return result

    return update


def _unscale(probe: Probe, original: Callable[..., Any]) -> Callable[..., Any]:
    def unscale(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(scaler, optimizer, *args, **kwargs)
        if probe.alive():
            probe.loop_call("unscale", optimizer)
        return result

    return unscale
