"""Which positions of a batch of sequences are padding, as far as the script tells."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from auditor.probe.batches import MAX_DEPTH, tensors
from auditor.probe.tokens import SHORTEST, marks

FEWEST = 4  # padded positions
FEWEST_LENGTHS = 3  # that differ, in a batch
LARGEST = 2**22  # elements of one tensor
MOST = 12  # tensors looked at
NAMES = re.compile(r"_*pad|_*pad(ding)?_?(id|idx|index|token|token_id|symbol|value|label)", re.IGNORECASE)
TOKENS = ("<pad>", "<PAD>", "[PAD]", "[pad]", "PAD", "pad", "_PAD_")


@dataclass
class Table:
    """What pad_sequence has made, (batch, length, ...)."""

    result: torch.Tensor
    lengths: list[int]


@dataclass
class Padding:
    run: torch.Tensor  # (batch, length) bool
    reason: str
    sure: bool  # told by something else than the padding itself


def paddings(given: Any, tables: Iterable[Table], named: dict[int, str]) -> list[Padding]:
    """Of each tensor (batch, length, ...) in the structure that seems to be padded. `named`: see named_padding()."""
    found = list(tensors(given))[:MOST]
    told = [torch.tensor(each) for each in _number_lists(given) if max(map(abs, each), default=0) < 2**31]
    return [each for each in (_padding(t, [*found, *told], tables, named) for t in found) if each is not None]


def named_padding(*places: Mapping[str, Any]) -> dict[int, str]:
    """Token -> the name by which the script calls it padding: `PAD = 0`, `pad_id = 1`, `vocab["<pad>"]`."""
    found: dict[int, str] = {}
    for place in places:
        for name, value in list(place.items()):
            if type(value) is int and value >= 0 and NAMES.fullmatch(str(name)):
                found.setdefault(value, str(name))
            elif type(value) is dict:
                inner = ((token, value.get(token)) for token in TOKENS)
                found.update({number: token for token, number in inner if type(number) is int and number not in found})
    return found


def _padding(
    tensor: torch.Tensor, others: list[torch.Tensor], tables: Iterable[Table], named: dict[int, str]
) -> Padding | None:
    if tensor.dim() < 2 or tensor.shape[1] < SHORTEST or tensor.numel() > LARGEST or tensor.dtype == torch.bool:
        return None
    if tensor.layout != torch.strided or tensor.is_complex() or not tensor.numel():
        return None
    for table in tables:
        if table.result.shape == tensor.shape and torch.equal(table.result.cpu(), tensor.detach().cpu()):
            ends = torch.tensor(table.lengths, device=tensor.device)
            filled = torch.arange(tensor.shape[1], device=tensor.device) >= ends[:, None]
            return Padding(filled, "pad_sequence", True) if int(filled.sum()) >= FEWEST else None
    run = _run_behind(tensor.detach())
    if run is None or int(run.sum()) < FEWEST or bool(run.all(1).any()):
        return None
    lengths = (~run).sum(1)
    for other in others:
        if other is tensor:
            continue
        if marks(other, run):
            return Padding(run, "a mask in the batch", True)
        whole = not other.is_floating_point() and other.shape == lengths.shape
        if whole and torch.equal(other.to(lengths), lengths):
            return Padding(run, "the lengths in the batch", True)
    token = None if tensor.is_floating_point() else int(tensor[:, -1].mode().values)
    if token in named and bool((lengths != lengths[0]).any()):
        return Padding(run, f"its name, {named[token]}", True)
    if tensor.is_floating_point() and tensor[0, 0].numel() > 1 and len(set(lengths.tolist())) >= FEWEST_LENGTHS:
        inside = (tensor.detach() == 0).reshape(*tensor.shape[:2], -1).all(-1) & ~run
        if not bool(inside.any()):
            return Padding(run, "vectors of zeros, at the ends of rows only", False)
    full = not bool(run.any(1).all())
    return Padding(run, "what stands behind the rows of batches of several widths", False) if full else None


def _run_behind(tensor: torch.Tensor) -> torch.Tensor | None:
    """(batch, length): belongs to what ends its row, the same value in every row; None where the rows have no such."""
    if tensor.is_floating_point():
        blank = (tensor == 0).reshape(*tensor.shape[:2], -1).all(-1)
    elif tensor.dim() == 2:
        pad = tensor[:, -1].mode().values
        blank = tensor == pad
    else:
        return None
    run = blank.int().flip(1).cumprod(1).flip(1).bool()
    if not tensor.is_floating_point() and bool((blank & ~run).any()):
        return None  # it is a token like the others
    return run


def _number_lists(value: Any, depth: int = 0) -> Iterator[list[int]]:
    """Lists of whole numbers, as lengths are given in."""
    if depth > MAX_DEPTH or isinstance(value, torch.Tensor | str):
        return
    if isinstance(value, list | tuple) and value and all(type(each) is int for each in value):
        yield list(value)
    elif isinstance(value, list | tuple):
        for item in value[:MOST]:
            yield from _number_lists(item, depth + 1)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _number_lists(item, depth + 1)
