"""Batches whose rows belong to other samples than their labels, because a collate function sorts one of them alone.

The collate function is given each sample by itself as well: by what it makes of a sample alone, that is known in the
batch. Nothing is assumed about which tensor is the label. One of them has to tell the samples apart, up to padding, and
another has to hold the very values of the samples in another order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from auditor.probe.batches import tensors
from auditor.probe.samples import content

LARGEST = 2**18  # elements of a row
Values = tuple[list[bytes | None], list[bytes | None]]  # of the rows, and of the samples


def mispaired(items: list[Any], collate: Callable[[list[Any]], Any]) -> tuple[int, int]:
    """(rows that could be told, of these such with the value of another sample beside them)."""
    batch = _leaves(collate(list(items)))
    alone = [_leaves(collate([item])) for item in items]
    if len(items) < 2 or any(len(each) != len(batch) for each in alone):
        return 0, 0
    columns = [
        (leaf, [each[place] for each in alone])
        for place, leaf in enumerate(batch)
        if leaf.dim() and leaf.shape[0] == len(items) and leaf[0].numel() <= LARGEST
    ]
    columns = [(leaf, own) for leaf, own in columns if all(each.dim() and each.shape[0] == 1 for each in own)]
    whole = [(leaf, own) for leaf, own in columns if leaf.dim() > 1]  # a number, a length say, is no sample
    orders = [order for order in (_order(leaf, own) for leaf, own in whole) if order is not None]
    if not orders or any(order != orders[0] for order in orders):
        return 0, 0  # two of them tell other stories: negatives, say, that are drawn from the same batch
    values = [each for each in (_values(leaf, own) for leaf, own in columns) if each is not None]
    apart = [sum(row != own[sample] for row, sample in zip(rows, orders[0], strict=True)) for rows, own in values]
    lone = [place for place, rows in enumerate(apart) if rows]
    if len(lone) != 1 or any(_again(values[lone[0]], other) for place, other in enumerate(values) if place != lone[0]):
        return len(items), 0
    return len(items), apart[lone[0]]


def _again(one: Values, other: Values) -> bool:
    """The same values are there twice: one of the two may be other samples' on purpose."""
    return Counter(one[0]) == Counter(other[0])


def _leaves(batch: Any) -> list[torch.Tensor]:
    return [each for each in tensors(batch) if each.layout == torch.strided]


def _order(leaf: torch.Tensor, own: list[torch.Tensor]) -> tuple[int, ...] | None:
    """Row -> the sample that it is; None where that is not certain for every row."""
    found: list[int] = []
    for row in leaf:
        fitting = [sample for sample, each in enumerate(own) if _fits(row, each[0])]
        if len(fitting) != 1:
            return None
        found += fitting
    return tuple(found) if len(set(found)) == len(found) else None


def _fits(row: torch.Tensor, sample: torch.Tensor) -> bool:
    """Equal, but for padding: one value at the end of each axis."""
    if row.dim() != sample.dim() or any(a < b for a, b in zip(row.shape, sample.shape, strict=True)):
        return False
    if not sample.dim():
        return bool(row == sample)
    inner = tuple(slice(0, size) for size in sample.shape)
    if not torch.equal(row[inner], sample):
        return False
    if row.shape == sample.shape:
        return True
    rest = torch.ones_like(row, dtype=torch.bool)
    rest[inner] = False
    padding = row[rest]
    return bool((padding == padding[0]).all())


def _values(leaf: torch.Tensor, own: list[torch.Tensor]) -> Values | None:
    """Contents of the rows and of the samples; None where they are not the same values in some order."""
    if any(each.shape[1:] != leaf.shape[1:] for each in own):
        return None
    rows, samples = [content(row) for row in leaf], [content(each[0]) for each in own]
    return (rows, samples) if Counter(rows) == Counter(samples) else None
