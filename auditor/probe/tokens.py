"""Token ids on their way into a model: where they enter, which of them are padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from auditor.probe.batches import tensors

SHORTEST = 3  # positions: less is no sequence
LARGEST = 2**22  # ids of one batch


@dataclass
class Stream:
    """Ids that one embedding received, (batch, length) or (length, batch)."""

    module: nn.Module
    ids: torch.Tensor
    index: int = 0  # which of the module's calls in this forward it was


def stream_of(module: nn.Module, args: Any, result: Any) -> Stream | None:
    """None unless the module turns a table of ids into vectors."""
    ids = args[0] if args and isinstance(args[0], torch.Tensor) else next(tensors(args), None)
    if ids is None or ids.is_floating_point() or ids.dtype == torch.bool or ids.is_complex() or ids.dim() != 2:
        return None
    if min(ids.shape) < 1 or max(ids.shape) < SHORTEST or ids.numel() > LARGEST:
        return None
    vectors = result if isinstance(result, torch.Tensor) else None
    if vectors is None or vectors.dim() != 3 or not vectors.is_floating_point() or vectors.shape[:2] != ids.shape:
        return None
    if not any(parameter.dim() == 2 for parameter in module.parameters(recurse=False)):
        return None
    return Stream(module, ids.detach().clone())


def padding_run(ids: torch.Tensor, pad: int, axis: int) -> torch.Tensor:
    """Bool: belongs to the run of padding at the end of its row, or at its start."""
    is_pad = (ids == pad).int()
    trailing = is_pad.flip(axis).cumprod(axis).flip(axis)
    return (trailing | is_pad.cumprod(axis)).bool()


def behind_the_first(run: torch.Tensor, axis: int) -> torch.Tensor:
    """The run without its padding token next to the text, which may be the end of the text itself."""
    before = run.roll(1, axis)
    before.select(axis, 0).fill_(True)
    after = run.roll(-1, axis)
    after.select(axis, -1).fill_(True)
    return run & before & after


def marks(mask: torch.Tensor, run: torch.Tensor) -> bool:
    """True for a tensor of the ids' shape, perhaps with axes of size 1 more, that has one value at all padding and
    another at all the rest."""
    if mask.numel() != run.numel() or [side for side in mask.shape if side != 1] != [s for s in run.shape if s != 1]:
        return False
    flat, inside = mask.detach().reshape(-1), run.reshape(-1).to(mask.device)
    at_pad, at_rest = flat[inside], flat[~inside]
    if not at_pad.numel() or not at_rest.numel():
        return False
    return bool((at_pad == at_pad[0]).all()) and bool((at_rest == at_rest[0]).all()) and bool(at_pad[0] != at_rest[0])


def declared_padding(module: nn.Module) -> int | None:
    """nn.Embedding's padding_idx."""
    index = getattr(module, "padding_idx", None)
    return index if isinstance(index, int) and index >= 0 else None
