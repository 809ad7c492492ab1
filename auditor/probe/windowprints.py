"""Windows of series, known by what their stretches hold: which of them were cut from the same steps?"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from auditor.probe.rowprints import odd_numbers, stirred

PIECE = 8  # steps of a series that are compared as one
MOST_LOOKED_AT = 2**13  # numbers of windows, in one look


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
    weights = odd_numbers(PIECE * steps.shape[2], steps.device).reshape(PIECE, -1)
    values, earlier = stirred(steps), _steps_since_equal(steps)
    prints = torch.zeros_like(steps[:, :places, 0])
    apart = torch.zeros_like(prints)
    for step in range(PIECE):
        prints += (values[:, step : step + places] * weights[step]).sum(2)
        apart += (earlier[:, step : step + places] > step).sum(2)
    return torch.where(apart < PIECE * steps.shape[2] // 2, 0, prints)


def _steps_since_equal(steps: torch.Tensor) -> torch.Tensor:
    """As `steps`: how long ago the channel had the same value; PIECE where that is longer."""
    since = torch.full_like(steps, PIECE, dtype=torch.int8)
    for lag in range(PIECE - 1, 0, -1):
        since[:, lag:].masked_fill_(steps[:, lag:] == steps[:, :-lag], lag)
    return since


def overlapping_windows(
    held_out: Sequence[list[torch.Tensor]], trained: Sequence[list[torch.Tensor]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """((windows,) bool: what the held-out windows hold tells them apart; (windows,) bool: these have both ends inside
    windows that were trained on), along the axis with most of the latter. An end at the same place in its window is no
    overlap, but the same data; and where test follows training in time, only the first steps of a window may have been
    trained on. Of pieces by look and axis."""
    best = (torch.zeros(0, dtype=torch.bool), torch.zeros(0, dtype=torch.bool))
    for axis in range(min((len(pieces) for pieces in held_out), default=0)):
        known = [pieces[axis].cpu() for pieces in trained if len(pieces) > axis]
        if not known:
            continue
        inner, outer = torch.cat([t[:, 1:].flatten() for t in known]), torch.cat([t[:, :-1].flatten() for t in known])
        pieces = torch.cat([each[axis].cpu() for each in held_out])
        first, last = pieces[:, 0], pieces[:, -1]
        usable = (first != 0) & (last != 0) & ~_repeating(pieces)
        shared = torch.isin(first, inner) & torch.isin(last, outer) & usable
        best = max(best, (usable, shared), key=lambda pair: (int(pair[1].sum()), int(pair[0].sum())))
    return best


def _repeating(pieces: torch.Tensor) -> torch.Tensor:
    """(rows,) bool: some stretch of a window comes twice in it, as in a signal that is exactly periodic."""
    ordered = pieces.sort(1).values
    return ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != 0)).any(1)
