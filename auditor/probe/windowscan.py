"""Windows of held-out data sets whose steps are in windows of the training data: they were cut before the split."""

from __future__ import annotations

import time

import torch

from auditor.evidence import WindowOverlap
from auditor.probe.descriptors import values_of
from auditor.probe.program import LoaderSeen
from auditor.probe.samples import Samples
from auditor.probe.windowprints import MOST_LOOKED_AT, PIECE, overlapping_windows, piece_prints

MOST_NUMBERS = 2**21  # of the windows of one data set
MOST_HELD_OUT = 1000
SECONDS = 2.0


def scan_windows(
    train: tuple[LoaderSeen, Samples], held_out: tuple[LoaderSeen, Samples], deadline: float
) -> tuple[WindowOverlap, list[int]] | None:
    """How many of the held-out windows overlap at both ends with training windows, and which; None for other data."""
    until = min(deadline, time.monotonic() + SECONDS)
    held, places = _pieces(held_out[1], MOST_HELD_OUT, until)
    trained, _ = _pieces(train[1], train[1].total, until) if held else ([], [])
    if not held or not trained:
        return None
    usable, shared = overlapping_windows(held, trained)
    overlap = WindowOverlap(
        training=train[0].name,
        held_out=held_out[0].name,
        windows=int(usable.sum()),
        overlapping=int(shared.sum()),
        location=held_out[0].location,
    )
    return overlap, [place for place, is_shared in zip(places, shared.tolist(), strict=False) if is_shared]


def _pieces(samples: Samples, most: int, until: float) -> tuple[list[list[torch.Tensor]], list[int]]:
    """(prints of stretches of windows, look by look; the positions of the windows)."""
    found: list[list[torch.Tensor]] = []
    places: list[int] = []
    look: list[torch.Tensor] = []
    numbers = 0
    for place in range(min(samples.total, most)):
        window = _window(samples, place)
        if window is None or (look and window.shape != look[0].shape) or time.monotonic() > until:
            break
        look.append(window)
        places.append(place)
        numbers += window.numel()
        if len(look) == max(1, MOST_LOOKED_AT // window.numel()):
            found.append(piece_prints(torch.stack(look)))
            look = []
        if numbers > MOST_NUMBERS:
            break
    if look:
        found.append(piece_prints(torch.stack(look)))
    return [pieces for pieces in found if pieces], places


def _window(samples: Samples, place: int) -> torch.Tensor | None:
    """A series of measured numbers, of one channel or of several."""
    value = values_of(samples.sample(place))
    if value is None or value.dim() not in (1, 2) or not value.is_floating_point():
        return None
    fits = max(value.shape) >= 2 * PIECE - 1 and value.numel() <= MOST_LOOKED_AT
    return value.detach().cpu() if fits else None
