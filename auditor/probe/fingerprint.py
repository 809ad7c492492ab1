"""A few numbers of a batch, to tell whether two model calls were given the same one."""

from __future__ import annotations

from typing import Any

import torch

from auditor.probe.batches import tensors

ELEMENTS = 64  # of one tensor
TENSORS = 4


def fingerprint(*values: Any) -> tuple[torch.Tensor, ...]:
    """A strided sample of the first tensors, on their device; shapes are part of it by the number of elements."""
    found: list[torch.Tensor] = []
    for tensor in tensors(values):
        if len(found) >= TENSORS:
            break
        if tensor.layout == torch.strided and tensor.numel() and not tensor.is_meta:
            flat = tensor.detach().reshape(-1)
            found.append(flat[:: max(1, flat.numel() // ELEMENTS)].clone())
    return tuple(found)


def different(prints: list[tuple[torch.Tensor, ...]]) -> int:
    """How many different ones there are. Synchronises."""
    kinds: list[tuple[torch.Tensor, ...]] = []
    for each in prints:
        if not any(_same(each, known) for known in kinds):
            kinds.append(each)
    return len(kinds)


def _same(one: tuple[torch.Tensor, ...], other: tuple[torch.Tensor, ...]) -> bool:
    return len(one) == len(other) and all(
        a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(one, other, strict=True)
    )
