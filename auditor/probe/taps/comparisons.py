"""Comparisons, differences and choices of tensors: what metrics, and losses by hand, are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.jit import _builtins
from torch.overrides import handle_torch_function, has_torch_function

from auditor.probe.probe import Probe
from auditor.probe.taps.patching import wrap

# What overlaps are made of, by the symbol that they are told as.
COMBINING = {"&": ("__and__", "logical_and"), "|": ("__or__", "logical_or"), "*": ("__mul__", "mul")}


def install(probe: Probe) -> None:
    if probe.collectors.hears("compared"):
        for owner, name in ((torch.Tensor, "__eq__"), (torch.Tensor, "eq"), (torch, "eq")):
            _wrap(owner, name, lambda original: _equal(probe, "==", original))
        for owner, name in ((torch.Tensor, "__ne__"), (torch.Tensor, "ne"), (torch, "ne")):
            _wrap(owner, name, lambda original: _equal(probe, "!=", original))
    for owner, name, place in ((torch.Tensor, "gather", 2), (torch, "gather", 2), (torch, "take_along_dim", 1)):
        _wrap(owner, name, lambda original, place=place: _taken(probe, original, place))  # type: ignore[misc]
    if probe.spec.experiments:
        _wrap(torch.Tensor, "__getitem__", lambda original: _indexed(probe, original))
    if probe.collectors.hears("subtracted") or probe.spec.experiments:
        for owner, name in ((torch.Tensor, "__sub__"), (torch.Tensor, "sub"), (torch, "sub")):
            _wrap(owner, name, lambda original: _minus(probe, original))
    if probe.collectors.hears("combined"):
        for symbol, names in COMBINING.items():
            for owner, name in ((owner, name) for owner in (torch.Tensor, torch) for name in names):
                if hasattr(owner, name):
                    _wrap(owner, name, lambda original, symbol=symbol: _combining(probe, symbol, original))  # type: ignore[misc]
    if probe.collectors.hears("took_largest"):
        for owner, name in ((torch.Tensor, "argmax"), (torch, "argmax"), (torch.Tensor, "max"), (torch, "max")):
            _wrap(owner, name, lambda original, name=name: _largest(probe, name, original))  # type: ignore[misc]


def _wrap(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace a function that is not written in Python: pickle finds ours by its name, and torch.jit.script takes it
    for the operation that it stands for."""
    wrap(owner, name, make)
    ours = getattr(owner, name)
    ours.__module__ = "torch"
    ours.__qualname__ = name if owner is torch else f"Tensor.{name}"
    if owner is torch:
        _builtins._register_builtin(ours, f"aten::{name}")


def _equal(probe: Probe, symbol: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def eq(*args: Any, **kwargs: Any) -> Any:
        if has_torch_function(args):  # what overrides torch's functions knows them by the names they have now
            return handle_torch_function(eq, args, *args, **kwargs)
        result = original(*args, **kwargs)
        # Runs for every comparison of any library: nothing more than this in the common case.
        if not probe.hears_metrics or len(args) != 2 or not isinstance(args[1], torch.Tensor):
            return result
        if isinstance(args[0], torch.Tensor) and not probe.calls.inside_root and probe.alive():
            probe.compared(symbol, args[0], args[1], result)
        return result

    return eq


def _indexed(probe: Probe, original: Callable[..., Any]) -> Callable[..., Any]:
    rows = probe.feed.rows

    def getitem(self: Any, index: Any) -> Any:
        if has_torch_function((self,)):
            return handle_torch_function(getitem, (self,), self, index)
        result = original(self, index)
        # Runs for every index of any library: nothing more than this outside of loops without loader.
        if not rows.listening or probe.updating or probe.calls.inside_root or not probe.alive():
            return result
        with probe.paused():
            return rows.taken(result)
        return result  # our own part failed, which `paused` has noted

    return getitem


def _minus(probe: Probe, original: Callable[..., Any]) -> Callable[..., Any]:
    def sub(*args: Any, **kwargs: Any) -> Any:
        if has_torch_function(args):
            return handle_torch_function(sub, args, *args, **kwargs)
        if probe.feed.hears_formulas and len(args) == 2 and not probe.calls.inside_root and probe.alive():
            args = _compared(probe, "-", *args)
        result = original(*args, **kwargs)
        # Runs for every difference of any library: only those of different ranks outside of models go further.
        if probe.hears_metrics and _ranks_differ(args) and not probe.calls.inside_root and probe.alive():
            probe.subtracted(args[0], args[1], result)
        return result

    return sub


def _combining(probe: Probe, symbol: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def combine(*args: Any, **kwargs: Any) -> Any:
        if has_torch_function(args):
            return handle_torch_function(combine, args, *args, **kwargs)
        result = original(*args, **kwargs)
        if probe.hears_metrics and _ranks_differ(args) and not probe.calls.inside_root and probe.alive():
            probe.combined(symbol, args[0], args[1], result)
        return result

    return combine


def _ranks_differ(args: tuple[Any, ...]) -> bool:
    if len(args) != 2 or not isinstance(args[0], torch.Tensor) or not isinstance(args[1], torch.Tensor):
        return False
    one, other = args[0].dim(), args[1].dim()
    return one != other and one > 0 < other


def _compared(probe: Probe, name: str, left: Any, right: Any) -> tuple[Any, Any]:
    """The operands of a loss by hand, in experiments with what was recorded in the place of what has no graph."""
    if not torch.is_grad_enabled():
        return left, right
    with probe.paused():
        if isinstance(left, torch.Tensor) and left.requires_grad:
            return left, probe.feed.operands(name, left, right)
        return probe.feed.operands(name, right, left), right
    return left, right  # our own part failed, which `paused` has noted


def _taken(probe: Probe, original: Callable[..., Any], place: int) -> Callable[..., Any]:
    """`place`: of the index among the arguments."""

    def gather(*args: Any, **kwargs: Any) -> Any:
        if has_torch_function(args):
            return handle_torch_function(gather, args, *args, **kwargs)
        heard = probe.feed.hears_formulas and len(args) > place and not probe.calls.inside_root
        if heard and torch.is_grad_enabled() and probe.alive():
            with probe.paused():
                args = (*args[:place], probe.feed.operands("gather", args[0], args[place]), *args[place + 1 :])
        return original(*args, **kwargs)

    return gather


def _largest(probe: Probe, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def largest(*args: Any, **kwargs: Any) -> Any:
        if has_torch_function(args):
            return handle_torch_function(largest, args, *args, **kwargs)
        result = original(*args, **kwargs)
        if probe.hears_metrics and not probe.calls.inside_root and (len(args) == 2 or kwargs):
            given = args[0] if args else kwargs.get("input")
            if isinstance(given, torch.Tensor) and given.dim() == 2 and given.shape[1] == 1 and probe.alive():
                probe.took_largest(name, given, result)
        return result

    return largest
