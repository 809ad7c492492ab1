"""Does a sample's output depend on where in the batch it stands? The same batch is given in reverse order.

A code for the place in time that is added along the batch does that, and leaves every other sample as it is. What a
model keeps from batch to batch, a hidden state for example, has a row for each place on purpose: such models are not
asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from auditor.probe.batches import map_tensors, tensors
from auditor.probe.examination import Examination

PLAIN = (bool, int, float, str, type(None))


def asked(examination: Examination, size: int) -> bool:
    """Everything that the model is called with and keeps is either a tensor with one row a sample, or has none."""
    return _rows_only((examination.args, examination.kwargs), size) and not any(
        _kept_by_place(value, size) for module in examination.module.modules() for value in _kept(module)
    )


def same_in_fewer(examination: Examination, outputs: list[torch.Tensor], size: int, limit: float) -> bool:
    """The first half alone gives what it gave as the first half: nothing is counted from the end, or dealt out."""
    half = size // 2

    def fewer(tensor: torch.Tensor) -> torch.Tensor:
        return tensor[:half] if tensor.dim() and tensor.shape[0] == size else tensor

    args, kwargs = map_tensors(examination.args, fewer), map_tensors(examination.kwargs, fewer)
    try:
        alone = examination.outputs(args, kwargs)
    except Exception:
        return False
    alone = [output for output in alone if output.dim() and output.shape[0] == half]
    if [output.shape[1:] for output in alone] != [output.shape[1:] for output in outputs]:
        return False
    pairs = zip(outputs, alone, strict=True)
    return all(bool((row_distances(whole[:half], part) <= limit).all()) for whole, part in pairs)


def row_distances(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """(rows,) largest change of each row, relative to the size of them all."""
    scale = max(float(before.double().square().mean().sqrt()), 1e-12)
    apart = (after.double() - before.double()).abs().nan_to_num(0.0, 0.0, 0.0)
    return apart.reshape(len(before), -1).amax(1).cpu() / scale


def first_by_place(
    recorded: Callable[[list[int]], list[tuple[nn.Module, torch.Tensor]]], size: int, limit: float
) -> nn.Module | None:
    """The first module whose rows do not come in reverse order when the samples do."""
    before, after = recorded(list(range(size))), recorded(list(range(size))[::-1])
    for (module, was), (same, now) in zip(before, after, strict=False):
        if module is not same or was.shape != now.shape:
            return None
        if float(row_distances(was, now.flip(0)).max()) > limit:
            return module
    return None


def _rows_only(given: Any, size: int) -> bool:
    if isinstance(given, torch.Tensor):
        return given.dim() == 0 or given.shape[0] == size or size not in given.shape
    if isinstance(given, dict):
        return all(_rows_only(each, size) for each in given.values())
    if isinstance(given, list | tuple) and type(given) in (list, tuple):
        numbers = any(isinstance(each, PLAIN) for each in given)
        return not (numbers and len(given) == size) and all(_rows_only(each, size) for each in given)
    return isinstance(given, PLAIN)


def _kept(module: nn.Module) -> list[Any]:
    """Plain attributes. Of buffers and weights, a call with fewer samples tells what they are."""
    return [value for name, value in vars(module).items() if not name.startswith("_")]


def _kept_by_place(value: Any, size: int) -> bool:
    if isinstance(value, list | tuple) and len(value) == size:
        return True
    shapes = [tensor.shape for tensor in tensors(value)]
    shape = getattr(value, "shape", ())
    return any(size in each for each in shapes) or (isinstance(shape, tuple) and size in shape)
