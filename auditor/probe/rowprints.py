"""One number for each row of a tensor, or for each run of tokens in it: equal numbers mean equal contents."""

from __future__ import annotations

import torch

MOST_VALUES = 128  # of one row, evenly spaced
FEWEST_VALUES = 4  # in a row of real numbers: fewer repeat by chance
FEWEST_TOKENS = 16
FEW_VALUES = 64  # whole numbers in that many columns repeat by chance
RUN = 24  # tokens that are compared as one
PIECE = 8  # steps of a series that are compared as one
MOST_LOOKED_AT = 2**13  # numbers of windows, in one look
MOST_ELEMENTS = 2**15  # that runs of tokens are summed over, for each 64 rows that are asked for


def is_text(tensor: torch.Tensor) -> bool:
    """Rows of tokens long enough to hold a run."""
    return tensor.dim() == 2 and tensor.dtype in (torch.int64, torch.int32) and tensor.shape[1] >= RUN


def repeats_by_chance(tensor: torch.Tensor) -> bool:
    """A table of codes or counts: few columns, whole numbers. Fetches."""
    if tensor.dim() < 2 or not tensor.is_floating_point() or tensor[:1].numel() > FEW_VALUES:
        return False
    return bool((tensor == tensor.round()).all())


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
    return torch.where(plain, 0, _mixed(bits))


def run_prints(tokens: torch.Tensor) -> torch.Tensor:
    """(runs,) int64: every run of RUN tokens in the first rows of (rows, length); 0 for one repeated token."""
    most = max(1, tokens.shape[0] // 64) * max(1, MOST_ELEMENTS // (tokens.shape[1] * RUN))
    runs = tokens.detach()[:most].long().unfold(1, RUN, 1).flatten(0, 1)
    return torch.where((runs == runs[:, :1]).all(1), 0, _mixed(runs))


def piece_prints(tensor: torch.Tensor) -> list[torch.Tensor]:
    """(rows, places) int64 for each axis that may be one of time in windows of measured numbers: every stretch of PIECE
    steps in the first rows. 0 where values repeat in it: such a stretch may come again by chance. Empty for windows of
    more than MOST_LOOKED_AT numbers."""
    if tensor.dim() not in (2, 3) or not tensor.is_floating_point() or not tensor.numel():
        return []
    values = tensor.detach().float()
    values = values[..., None] if values.dim() == 2 else values
    rows = MOST_LOOKED_AT // values[0].numel()
    bits = values[:rows].contiguous().view(torch.int32).long()
    by_axis = (bits, bits.transpose(1, 2)) if rows else ()
    return [_pieces(steps) for steps in by_axis if steps.shape[1] >= 2 * PIECE - 1]


def _pieces(steps: torch.Tensor) -> torch.Tensor:
    """(rows, places) prints, of (rows, steps, channels) int64. Sums of shifted tensors, not windows that are copied."""
    places = steps.shape[1] - PIECE + 1
    weights = _odd_numbers(PIECE * steps.shape[2], steps.device).reshape(PIECE, -1)
    stirred, earlier = _stirred(steps), _steps_since_equal(steps)
    prints = torch.zeros_like(steps[:, :places, 0])
    apart = torch.zeros_like(prints)
    for step in range(PIECE):
        prints += (stirred[:, step : step + places] * weights[step]).sum(2)
        apart += (earlier[:, step : step + places] > step).sum(2)
    return torch.where(apart < PIECE * steps.shape[2] // 2, 0, prints)


def _steps_since_equal(steps: torch.Tensor) -> torch.Tensor:
    """As `steps`: how long ago the channel had the same value; PIECE where that is longer."""
    since = torch.full_like(steps, PIECE, dtype=torch.int8)
    for lag in range(PIECE - 1, 0, -1):
        since[:, lag:].masked_fill_(steps[:, lag:] == steps[:, :-lag], lag)
    return since


def _mixed(bits: torch.Tensor) -> torch.Tensor:
    """A sum of products with odd numbers, each value stirred before: int64 wraps."""
    return (_stirred(bits) * _odd_numbers(bits.shape[1], bits.device)).sum(1)


def _odd_numbers(count: int, device: torch.device) -> torch.Tensor:
    return (torch.arange(1, count + 1, device=device) * -7046029254386353131) | 1


def _stirred(bits: torch.Tensor) -> torch.Tensor:
    stirred = (bits ^ (bits >> 15)) * -4658895280553007687
    return stirred ^ (stirred >> 29)
