"""One number for each row of a tensor, or for each run of tokens in it: equal numbers mean equal contents."""

from __future__ import annotations

from collections.abc import Sequence

import torch

MOST_VALUES = 128  # of one row, evenly spaced
FEWEST_VALUES = 4  # in a row of real numbers: fewer repeat by chance
FEWEST_TOKENS = 16
FEW_VALUES = 64  # whole numbers in that many columns repeat by chance
RUN = 24  # tokens that are compared as one
MOST_ELEMENTS = 2**15  # that runs of tokens are summed over, for each 64 rows that are asked for


def is_text(tensor: torch.Tensor) -> bool:
    """Rows of tokens long enough to hold a run."""
    return tensor.dim() == 2 and tensor.dtype in (torch.int64, torch.int32) and tensor.shape[1] >= RUN


def repeats_by_chance(*inputs: torch.Tensor) -> bool:
    """A table of codes or counts: few columns, whole numbers. Fetches."""
    reals = [each for each in inputs if each.is_floating_point()]
    if inputs[0].dim() < 2 or not reals or sum(each[:1].numel() for each in inputs) > FEW_VALUES:
        return False
    return all(bool((each == each.round()).all()) for each in reals)


def some_rows(tensor: torch.Tensor, most: int, turn: int) -> torch.Tensor:
    """At most that many rows in succession; others at each turn, so that a batch of everything is seen in the end."""
    if tensor.shape[0] <= most:
        return tensor
    first = turn * most % (tensor.shape[0] - most + 1)
    return tensor[first : first + most]


def row_prints(tensor: torch.Tensor) -> torch.Tensor | None:
    """(rows,) int64 on the device of `tensor`, which is (rows, ...); 0 for a row of one repeated value. None where rows
    hold too little to be told apart."""
    if tensor.dim() < 2 or not tensor.numel() or tensor.is_complex() or tensor.layout != torch.strided:
        return None
    rows = tensor.detach().flatten(1)
    whole = not rows.is_floating_point()
    if rows.shape[1] < (FEWEST_TOKENS if whole else FEWEST_VALUES):
        return None
    if rows.shape[1] > MOST_VALUES:
        rows = rows[:, :: -(-rows.shape[1] // MOST_VALUES)]
    plain = (rows == rows[:, :1]).all(1)
    bits = rows.long() if whole else rows.float().contiguous().view(torch.int32).long()
    return torch.where(plain, 0, mixed(bits))


def joint_prints(inputs: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """As `row_prints`, of several tensors with as many rows, side by side: a row is told by all that belongs to it."""
    if len(inputs) == 1:
        return row_prints(inputs[0])
    if any(each.is_complex() or each.layout != torch.strided for each in inputs):
        return None
    reals = sum(each[:1].numel() for each in inputs if each.is_floating_point())
    if reals < FEWEST_VALUES and sum(each[:1].numel() for each in inputs) < FEWEST_TOKENS:
        return None
    bits = row_bits(inputs)
    told = [(each != each[:, :1]).any(1) for each in map(_as_bits, inputs) if each.shape[1] > 1]
    return torch.where(torch.stack(told).any(0), mixed(bits), 0) if told else mixed(bits)


def row_bits(inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    """(rows, values) int64: at most MOST_VALUES of each input."""
    return torch.cat([_as_bits(each) for each in inputs], 1)


def _as_bits(tensor: torch.Tensor) -> torch.Tensor:
    rows = tensor.detach().flatten(1) if tensor.dim() > 1 else tensor.detach()[:, None]
    rows = rows[:, :: max(1, -(-rows.shape[1] // MOST_VALUES))]
    return rows.float().contiguous().view(torch.int32).long() if rows.is_floating_point() else rows.long()


def agreement(bits: torch.Tensor, prints: torch.Tensor) -> float:
    """How likely, at most, two different rows agree in the one value in which they do so least: a 95 % bound from the
    pairs of rows that do. Two rows that come to be equal by chance agree in that value, too."""
    order = prints.argsort()
    ordered = prints[order]
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[1:] = ordered[1:] != ordered[:-1]
    rows = bits[order[new]]
    pairs = len(rows) * (len(rows) - 1) / 2
    if not pairs:
        return 1.0
    ranked = rows.sort(0).values
    equal = int((ranked[1:] == ranked[:-1]).sum(0).min())
    # In a run of equal values there are more equal pairs than neighbours; none in n pairs may be 3 / n in truth.
    return min(1.0, (equal * (equal + 1) / 2 + 3) / pairs)


def run_prints(tokens: torch.Tensor) -> torch.Tensor:
    """(runs,) int64: every run of RUN tokens in the first rows of (rows, length); 0 for one repeated token."""
    most = max(1, tokens.shape[0] // 64) * max(1, MOST_ELEMENTS // (tokens.shape[1] * RUN))
    runs = tokens.detach()[:most].long().unfold(1, RUN, 1).flatten(0, 1)
    return torch.where((runs == runs[:, :1]).all(1), 0, mixed(runs))


def mixed(bits: torch.Tensor) -> torch.Tensor:
    """A sum of products with odd numbers, each value stirred before: int64 wraps."""
    return (stirred(bits) * odd_numbers(bits.shape[1], bits.device)).sum(1)


def odd_numbers(count: int, device: torch.device) -> torch.Tensor:
    return (torch.arange(1, count + 1, device=device) * -7046029254386353131) | 1


def stirred(bits: torch.Tensor) -> torch.Tensor:
    moved = (bits ^ (bits >> 15)) * -4658895280553007687
    return moved ^ (moved >> 29)
