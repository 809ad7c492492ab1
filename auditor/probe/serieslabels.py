"""Sequences of numbers whose targets are their own later values: is the model one that forecasts at each position?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from auditor.evidence import Location
from auditor.probe.batches import tensors
from auditor.probe.losscall import LossCall

SHORTEST = 8  # positions
FARTHEST = 8  # positions ahead that are looked for, and no more than a quarter of the length
CHANNELS = 8  # of the targets that are compared
LARGEST = 2**20  # values of one tensor
LOSSES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "gaussian_nll_loss")


@dataclass
class Series:
    """How the targets lie to one input of the model, at every look so far."""

    place: int  # of the input among the tensors that the model is called with
    axis: int  # of the positions in it
    length: int
    offset: int  # target i is the value so many positions on; 0: it is at no certain one
    location: Location | None
    first: int = 0  # position of the first prediction that has a target
    model: int = 0  # id of the module that was given it


def shifted_series(given: list[torch.Tensor], call: LossCall, first: int) -> Series | None:
    """None where the target is no shifted input. `first`: position of the first row of predictions."""
    target = call.target.detach()
    if call.name not in LOSSES or call.target.requires_grad or first < 0 or target.numel() > LARGEST:
        return None
    for place, tensor in enumerate(given):
        for axis, values in by_time(tensor):
            for _, wanted in by_time(target):
                offset = _offset(values, wanted, first)
                if offset:
                    return Series(place, axis, values.shape[1], offset, call.location, first)
    return None


def inputs(args: Any, kwargs: Any) -> list[torch.Tensor]:
    return list(tensors((args, kwargs)))


def by_time(tensor: torch.Tensor) -> list[tuple[int, torch.Tensor]]:
    """(axis, values) for each axis that may be one of positions; values are (batch, length, channels)."""
    if not tensor.is_floating_point() or tensor.dim() not in (2, 3) or tensor.numel() > LARGEST:
        return []
    values = tensor.detach()
    if values.dim() == 2:
        return [(1, values[..., None])] if values.shape[1] >= SHORTEST else []
    found = [(1, values)] if values.shape[1] >= SHORTEST else []
    return [*found, (2, values.transpose(1, 2))] if values.shape[2] >= SHORTEST else found


def _offset(values: torch.Tensor, target: torch.Tensor, first: int) -> int:
    """By how many positions the target is ahead, each of its channels a channel of the input; 0 where it is not."""
    values = values[:, first:]
    length, rows = values.shape[1], target.shape[1]
    fits = length >= SHORTEST and length - 1 <= rows <= length
    if target.shape[0] != values.shape[0] or not fits or target.device != values.device:
        return 0
    channels = target[..., :CHANNELS]
    for offset in range(min(FARTHEST, length // 4) + 1):
        end = min(rows, length - offset)
        pairs = values[:, offset : offset + end, None, :] == channels[:, :end, :, None]
        if bool(pairs.all(0).all(0).any(-1).all()):
            return offset  # at 0, it is a reconstruction, or a constant
    return 0
