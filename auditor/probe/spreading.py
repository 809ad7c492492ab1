"""Shapes that broadcasting spreads over each other: every prediction meets every target."""

from __future__ import annotations

import math

import torch

from auditor.probe.lossgraph import kind

BY_ELEMENT = ("Add", "Sub", "Mul", "Div")


def spread_over_each_other(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """True for (B, 1) and (B,): equal but for axes of size 1, and broadcasting makes all pairs of them."""
    if len(one) == len(other) or [side for side in one if side != 1] != [side for side in other if side != 1]:
        return False
    rank = max(len(one), len(other))
    padded = [(1,) * (rank - len(shape)) + shape for shape in (one, other)]
    sides = list(zip(*padded, strict=True))
    if any(a != b and 1 not in (a, b) for a, b in sides):
        return False
    whole: int = math.prod(max(a, b) for a, b in sides)
    return whole > max(math.prod(one), math.prod(other))


def spread_before(input: torch.Tensor, target: torch.Tensor) -> bool:
    """One target a sample, and a prediction for each pair of samples, made by a sum or product: (B,) met (B, 1) inside
    the model. Pairs that are meant come from a product of matrices, or have targets for pairs."""
    pairs = target.dim() == 1 and tuple(input.shape) == (len(target), len(target)) and len(target) > 2
    node = input.grad_fn
    return pairs and not target.requires_grad and node is not None and kind(node) in BY_ELEMENT
