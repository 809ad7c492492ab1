"""Remedies that put another layer, or another derivative, in the place of one that the model has."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from auditor.evidence import Remedy
from auditor.probe.held import held
from auditor.probe.remedies.evaluated import EvaluatedLoss
from auditor.probe.remedies.treatment import Treatment, changing
from auditor.probe.replay import NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

CHANNELS_A_GROUP = 16  # Wu and He 2018 (arXiv 1803.08494), table 3: as good as 32 groups, whatever the width
BOUNDED = ("tanh", "sigmoid", "hardtanh")


def group_norm(probe: Probe, remedy: Remedy) -> Treatment:
    """Of the same weight and bias. Norms that stay in evaluation mode, and normalize by their averages, stay."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")

    trained: set[int] = set()  # ids of the averages

    def change(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name != "batch_norm" or function is not functional.batch_norm:
            return NotImplemented
        given = dict(zip(names, args, strict=False)) | kwargs
        if given.get("training"):
            trained.add(id(given.get("running_mean")))
        elif id(given.get("running_mean")) not in trained:
            return NotImplemented
        values = given["input"]
        groups = _groups(values.shape[1])
        return functional.group_norm(values, groups, given.get("weight"), given.get("bias"), given.get("eps", 1e-5))

    return _evaluated(changing(change))


def frozen_norms(probe: Probe, remedy: Remedy) -> Treatment:
    norms = [
        module
        for _, model in probe.program.models()
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None and _is_frozen(module)
    ]
    if not norms:
        raise NotRun("no batch norm has weights that are not trained")
    handles: list[Any] = []
    met: list[str] = []

    switched: list[nn.Module] = []  # for the forward at hand

    def by_averages(norm: nn.Module, args: Any) -> None:
        if norm.training:
            met.append("norm")
            switched.append(norm)
            norm.training = False

    def as_before(norm: nn.Module, args: Any, output: Any) -> None:
        if norm in switched:
            switched.remove(norm)
            norm.training = True

    def prepare() -> None:
        handles.extend(norm.register_forward_pre_hook(by_averages) for norm in norms)
        handles.extend(norm.register_forward_hook(as_before, always_call=True) for norm in norms)

    def undo() -> None:
        for handle in handles:
            handle.remove()
        handles.clear()

    return _evaluated(Treatment({"prepare": prepare, "undo": undo}, met=[met]))


def _is_frozen(norm: _BatchNorm) -> bool:
    weights = [held(norm, "weight"), held(norm, "bias")]
    return weights[0] is not None and not any(each is not None and each.requires_grad for each in weights)


def _evaluated(treatment: Treatment) -> Treatment:
    """Measured by the loss in evaluation mode, where that is known."""
    evaluated, change = EvaluatedLoss(), treatment.fields.get("calls")
    treatment.metric = "loss in evaluation mode"
    treatment.shared |= {"examine": evaluated.look, "measure": evaluated.measure}
    if change is not None:
        treatment.fields["examine"] = evaluated.look_changed(change)
    return treatment


def _groups(channels: int) -> int:
    """As many as the channels can be divided into evenly, with CHANNELS_A_GROUP in each, or all in one."""
    most = max(1, channels // CHANNELS_A_GROUP)
    return next(groups for groups in range(most, 0, -1) if channels % groups == 0)


def no_single_norms(probe: Probe, remedy: Remedy) -> Treatment:
    """A value less its own mean is zero, whatever it was."""

    def change(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        values = args[0] if args else kwargs.get("input")
        if not isinstance(values, torch.Tensor) or _values_a_mean(name, values, args, kwargs) != 1:
            return NotImplemented
        return values

    return changing(change)


def _values_a_mean(name: str, values: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """How many values a norm takes the mean of; 0 for other functions."""
    given = args[1] if len(args) > 1 else None
    if name == "layer_norm":
        return int(prod(given or kwargs.get("normalized_shape", ())))
    if name not in ("group_norm", "instance_norm") or values.dim() < 2:
        return 0
    inside = values[:1, :1].numel()
    return inside * values.shape[1] // int(given or kwargs.get("num_groups", 1)) if name == "group_norm" else inside


def relu_units(probe: Probe, remedy: Remedy) -> Treatment:
    """Gates and the model's last activation stay what they are: they are meant to be bounded."""
    collector = probe.collectors.find("saturation")
    inside: set[tuple[int, int]] = collector.inside() if collector is not None else set()
    if not inside:
        raise NotRun("no tanh or sigmoid between two layers was seen")
    calls: dict[int, int] = {}

    def anew(args: Any, kwargs: Any) -> tuple[Any, Any]:
        calls.clear()
        return args, kwargs

    def change(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        first = args[0] if args else kwargs.get("input")
        if name.rstrip("_") not in BOUNDED or not isinstance(first, torch.Tensor):
            return NotImplemented
        if first.dim() < 2 or not first.requires_grad:
            return NotImplemented
        owner = id(probe.calls.stack[-1]) if probe.calls.stack else id(None)
        index = calls.get(owner, 0)
        calls[owner] = index + 1
        return torch.relu(first) if (owner, index) in inside else NotImplemented

    treatment = changing(change)
    treatment.fields["call_change"] = anew
    return treatment


def own_derivative(probe: Probe, remedy: Remedy) -> Treatment:
    """The backward of an autograd function is worked out from its forward, at the inputs of each call."""
    collector = probe.collectors.find("custom_functions")
    found = collector.applied(remedy.subject) if collector is not None else None
    if found is None:
        raise NotRun("no autograd function of that name was applied")
    if found.setup_context is not torch.autograd.Function.setup_context:
        raise NotRun("its context is set up apart from its forward")
    forward, backward = found.forward, found.backward
    met: list[str] = []

    def remembered(ctx: Any, *args: Any) -> Any:
        ctx.audited = tuple(each.detach().clone() if isinstance(each, torch.Tensor) else each for each in args)
        return forward(ctx, *args)

    def derived(ctx: Any, *gradients: Any) -> Any:
        met.append(remedy.subject)
        return _derivative(forward, ctx.audited, ctx.needs_input_grad, gradients)

    def prepare() -> None:
        found.forward, found.backward = staticmethod(remembered), staticmethod(derived)

    def undo() -> None:
        found.forward, found.backward = staticmethod(forward), staticmethod(backward)

    return Treatment({"prepare": prepare, "undo": undo}, met=[met])


class _Context:
    """What a forward writes down for a backward that is not called."""

    saved_tensors: tuple[Any, ...] = ()
    needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *values: Any) -> None:
        self.saved_tensors = values

    def mark_dirty(self, *values: Any) -> None: ...

    def mark_non_differentiable(self, *values: Any) -> None: ...

    def set_materialize_grads(self, value: bool) -> None: ...


def _derivative(
    forward: Callable[..., Any], args: tuple[Any, ...], needed: tuple[bool, ...], gradients: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Of the forward's floating-point outputs with respect to each input, None for those that need none."""
    context = _Context()
    context.needs_input_grad = needed
    with torch.enable_grad():
        leaves = [each.requires_grad_() if wanted else each for each, wanted in zip(args, needed, strict=True)]
        # Behind an operation, as in a network: a leaf must not be written into.
        given = [each.clone() if wanted else each for each, wanted in zip(leaves, needed, strict=True)]
        result = forward(context, *given)
    outputs = result if isinstance(result, tuple) else (result,)
    pairs = [
        (output, gradient)
        for output, gradient in zip(outputs, gradients, strict=True)
        if isinstance(output, torch.Tensor) and output.requires_grad and gradient is not None
    ]
    wanted_leaves = [leaf for leaf, wanted in zip(leaves, needed, strict=True) if wanted]
    if not pairs:
        raise RuntimeError("its forward is not made of operations that autograd can follow")
    found = iter(torch.autograd.grad([o for o, _ in pairs], wanted_leaves, [g for _, g in pairs], allow_unused=True))
    return tuple(next(found) if wanted else None for wanted in needed)
