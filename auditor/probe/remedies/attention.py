"""Masks for attention, pooling and convolutions that have none, as changes of calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from auditor.probe.callchange import CallChange

_ATTENTION = inspect.signature(functional.multi_head_attention_forward)
_POOLS = ("mean", "sum", "amax", "max")

Hidden = Callable[[tuple[int, ...]], "torch.Tensor | None"]  # shape of scores -> where they count for nothing


def causal(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """No position sees later ones: square attention is masked, symmetric padding of a convolution goes to the left."""
    if name == "pad":
        return _padded_left(function, args, kwargs)
    if name == "conv1d":
        return _causal_convolution(function, args, kwargs)
    return _masked_attention(name, function, args, kwargs, _later)


def _later(shape: tuple[int, ...]) -> torch.Tensor | None:
    if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] < 2:
        return None
    return torch.ones(shape[-2:], dtype=torch.bool).triu(1)


def without_padding(runs: dict[int, torch.Tensor]) -> CallChange:
    """No position attends to padding, and what pools over positions leaves it out. `runs`: (batch, length), True at
    padding, by length. One position more than that is a summary token that the model puts in front."""
    runs = _with_summary(runs)

    def hidden(shape: tuple[int, ...]) -> torch.Tensor | None:
        run = runs.get(shape[-1])
        if run is None or len(shape) < 2 or shape[0] != run.shape[0]:
            return None
        return run.reshape(run.shape[0], *([1] * (len(shape) - 2)), run.shape[1])

    def change(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name in _POOLS:
            return _pooled(name, function, args, kwargs, runs)
        return _masked_attention(name, function, args, kwargs, hidden)

    return change


def _with_summary(runs: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
    """The same, and with a position in front that is no padding."""
    more = {length + 1: torch.cat([run.new_zeros(run.shape[0], 1), run], dim=1) for length, run in runs.items()}
    return more | runs


def _masked_attention(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], hidden: Hidden) -> Any:
    if name == "multi_head_attention_forward":
        return _multi_head(function, args, kwargs, hidden)
    if name == "scaled_dot_product_attention" and len(args) >= 2:
        return _dot_product(function, args, kwargs, hidden)
    if name == "softmax" and args and isinstance(args[0], torch.Tensor):
        scores = args[0]
        axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if not isinstance(axis, int) or scores.dim() < 2:
            return NotImplemented
        moved = scores.movedim(axis, -1)
        where = hidden(tuple(moved.shape))
        if where is None:
            return NotImplemented
        masked = moved.masked_fill(where.to(scores.device), torch.finfo(scores.dtype).min).movedim(-1, axis)
        return function(masked, *args[1:], **kwargs)
    return NotImplemented


def _multi_head(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], hidden: Hidden) -> Any:
    """(length, batch, features) as the function gets them; the scores are (batch, heads, length, length)."""
    bound = _ATTENTION.bind(*args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    query, key = given["query"], given["key"]
    if query.dim() != 3:
        return NotImplemented
    where = hidden((key.shape[1], 1, query.shape[0], key.shape[0]))
    if where is None:
        return NotImplemented
    where = where.to(query.device)
    if where.dim() == 2:
        given["attn_mask"] = _joined(given["attn_mask"], where)
    else:
        own, at_padding = given["attn_mask"], where[:, 0, 0]
        if own is not None and own.dtype != torch.bool and given["key_padding_mask"] is None:  # torch wants one type
            at_padding = torch.zeros_like(at_padding, dtype=own.dtype).masked_fill(at_padding, -torch.inf)
            given["key_padding_mask"] = at_padding
        else:
            given["key_padding_mask"] = _joined(given["key_padding_mask"], at_padding)
    given["is_causal"] = False
    return function(*bound.args, **bound.kwargs)


def _joined(mask: torch.Tensor | None, where: torch.Tensor) -> torch.Tensor:
    """The mask, which hides what is True or minus infinity, with what is to be hidden besides."""
    if mask is None:
        return where
    return mask | where if mask.dtype == torch.bool else mask.masked_fill(where, -torch.inf)


def _dot_product(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], hidden: Hidden) -> Any:
    query, key = args[:2]
    shape = (*query.shape[:-1], key.shape[-2])
    where = hidden(tuple(shape))
    if where is None:
        return NotImplemented
    seen = ~where.to(query.device)  # here True is what takes part
    mask = args[3] if len(args) > 3 else kwargs.get("attn_mask")
    if mask is not None:
        seen = mask & seen if mask.dtype == torch.bool else mask.masked_fill(~seen, -torch.inf)
    left = {name: value for name, value in kwargs.items() if name not in ("attn_mask", "is_causal")}
    dropout = {"dropout_p": args[4]} if len(args) > 4 else {}
    return function(*args[:3], attn_mask=seen, **dropout, **left)


def _pooled(
    name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], runs: dict[int, torch.Tensor]
) -> Any:
    """Over the positions of (batch, length, ...)."""
    given = args[0] if args else None
    if not isinstance(given, torch.Tensor) or given.dim() < 3 or not given.is_floating_point():
        return NotImplemented
    axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
    axis = axis[0] if isinstance(axis, tuple | list) and len(axis) == 1 else axis
    run = runs.get(given.shape[1])
    if axis not in (1, 1 - given.dim()) or run is None or run.shape[0] != given.shape[0]:
        return NotImplemented
    where = run.reshape(*run.shape, *([1] * (given.dim() - 2))).to(given.device)
    lowest = torch.finfo(given.dtype).min if "max" in name else 0.0
    result = function(given.masked_fill(where, lowest), *args[1:], **kwargs)
    if name != "mean":
        return result
    kept = (~run).sum(1).clamp(min=1).to(result)
    return result * (run.shape[1] / kept).reshape(-1, *([1] * (result.dim() - 1)))


def _padded_left(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given, widths = args[0] if args else None, args[1] if len(args) > 1 else kwargs.get("pad")
    if not isinstance(given, torch.Tensor) or given.dim() != 3 or widths is None or len(widths) != 2:
        return NotImplemented
    before, behind = widths
    if before != behind or before <= 0:
        return NotImplemented
    rest = {name: value for name, value in kwargs.items() if name != "pad"}
    return function(given, (2 * before, 0), *args[2:], **rest)


def _causal_convolution(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given, weight = args[:2] if len(args) > 1 else (None, None)
    if not isinstance(given, torch.Tensor) or weight is None or given.dim() != 3:
        return NotImplemented
    names = ("bias", "stride", "padding", "dilation", "groups")
    options = dict(zip(names, args[2:], strict=False)) | kwargs
    stride, padding = _one(options.get("stride", 1)), _one(options.get("padding", 0))
    dilation = _one(options.get("dilation", 1))
    reach = dilation * (weight.shape[-1] - 1)
    if stride != 1 or not (padding == "same" or (isinstance(padding, int) and 2 * padding == reach)) or reach == 0:
        return NotImplemented
    options["padding"] = 0
    return function(functional.pad(given, (reach, 0)), weight, **options)


def _one(value: Any) -> Any:
    return value[0] if isinstance(value, tuple | list) and len(value) == 1 else value
