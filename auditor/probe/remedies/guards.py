"""Operations kept away from where they have no value or no slope: the logarithm and the root of 0, a division by 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from auditor.evidence import EVERY_OPERATION, Remedy
from auditor.probe.locate import user_location
from auditor.probe.remedies.treatment import Treatment, changing, is_at
from auditor.probe.replay import NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

LEAST = 1e-6
MOST = 30.0  # of an exponent


def guard(probe: Probe, remedy: Remedy) -> Treatment:
    """Of all such operations in the line: which one broke down is known by a name of the graph at times. Of those in
    all lines that carry a gradient where the remedy says so."""
    site, everywhere = remedy.site, remedy.subject == EVERY_OPERATION
    if site is None and not everywhere:
        raise NotRun("the line of the operation is not known")

    def change(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        guarded = _GUARDED.get(name)
        if guarded is None or not args:
            return NotImplemented
        if everywhere:
            if name in _OF_ANY_NUMBER or not _carry_gradient(args):
                return NotImplemented
        elif not is_at(site, user_location()):
            return NotImplemented
        return guarded(function, args, kwargs)

    return changing(change)


def _carry_gradient(args: tuple[Any, ...]) -> bool:
    """An optimizer takes roots and quotients as well, without any."""
    return torch.is_grad_enabled() and any(isinstance(each, torch.Tensor) and each.requires_grad for each in args)


def _positive(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not isinstance(args[0], torch.Tensor):
        return NotImplemented
    return function(args[0].clamp(min=LEAST), *args[1:], **kwargs)


def _bounded(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not isinstance(args[0], torch.Tensor):
        return NotImplemented
    return function(args[0].clamp(max=MOST), *args[1:], **kwargs)


def _inside_one(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(args[0].clamp(LEAST - 1, 1 - LEAST), *args[1:], **kwargs)


def _divided(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if len(args) < 2 or not isinstance(args[1], torch.Tensor):
        return NotImplemented
    return function(args[0], _away_from_zero(args[1]), *args[2:], **kwargs)


def _dividing(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`1 / x` and `x.reciprocal()`: the tensor itself is the divisor."""
    return function(_away_from_zero(args[0]), *args[1:], **kwargs)


def _away_from_zero(divisor: torch.Tensor) -> torch.Tensor:
    if not divisor.is_floating_point():
        return divisor
    least = torch.full_like(divisor, LEAST)
    return torch.where(divisor.abs() < LEAST, torch.where(divisor < 0, -least, least), divisor)


def _spread_out(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A norm or a standard deviation of 0 has no slope: the values are moved apart by next to nothing."""
    values = args[0]
    if not isinstance(values, torch.Tensor) or not values.is_floating_point() or not values.numel():
        return NotImplemented
    ramp = torch.linspace(LEAST, 2 * LEAST, values.numel(), dtype=values.dtype, device=values.device)
    return function(values + ramp.view(values.shape), *args[1:], **kwargs)


_OF_ANY_NUMBER = ("pow", "__pow__")  # whole powers of negative numbers are what they should be
_GUARDED: dict[str, Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]] = {
    **dict.fromkeys(("sqrt", "sqrt_", "rsqrt", "log", "log_", "log2", "log10", "pow", "__pow__"), _positive),
    **dict.fromkeys(("exp", "exp_", "expm1"), _bounded),
    **dict.fromkeys(("acos", "arccos", "asin", "arcsin", "atanh"), _inside_one),
    **dict.fromkeys(("div", "__truediv__", "true_divide", "divide"), _divided),
    **dict.fromkeys(("reciprocal", "__rtruediv__", "__rdiv__"), _dividing),
    **dict.fromkeys(("norm", "vector_norm", "linalg_vector_norm", "std", "cosine_similarity", "cdist"), _spread_out),
}
