"""Masks that a model makes for itself, of the tokens it is called with, and lays over its hidden states."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from auditor.probe.batches import tensors
from auditor.probe.operations import NORMALIZERS, short_name

ATTENTION = frozenset({"scaled_dot_product_attention", "multi_head_attention_forward"})
FILLING = frozenset({"masked_fill", "masked_fill_", "where"})
MOST = 64  # masks kept of one call


class MasksUsed(TorchFunctionMode):
    """Operations that combine hidden states, (batch, length, ...) or scores, with a table of one value a position.

    Such a table may be a mask; whether it marks the padding is for the reader to see. `attention`: whether positions
    are mixed by weights that a mask could take away. Where they are mixed in another way (by an average, a transform
    over the length), a mask that is made for something else says nothing about them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[torch.Tensor] = []
        self.attention = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = short_name(func)
        given = list(tensors((args, kwargs)))
        largest = max(given, key=lambda tensor: tensor.numel(), default=None)
        if largest is not None and largest.dim() == 2 and name in FILLING and len(self.masks) < MOST:
            fitting = [t for t in given if t.dtype == torch.bool and t.shape == largest.shape]
            self.masks.extend(tensor.detach().clone() for tensor in fitting)
            self.attention = self.attention or bool(
                fitting
            )  # scores of the positions, filled up before they are summed
        if largest is not None and largest.dim() >= 3 and largest.is_floating_point():
            weights = name in NORMALIZERS and largest.shape[-1] == largest.shape[-2]  # of positions for positions
            self.attention = self.attention or name in ATTENTION or weights
            for tensor in given:
                if len(self.masks) < MOST and _one_a_position(tensor, largest):
                    self.masks.append(tensor.detach().clone())
        return func(*args, **kwargs)


def _one_a_position(tensor: torch.Tensor, states: torch.Tensor) -> bool:
    sides = [side for side in tensor.shape if side != 1]
    return (
        tensor.numel() < states.numel()
        and len(sides) == 2
        and sides[0] in states.shape
        and sides[1] in states.shape
        and states.shape[0] in sides
    )
