"""Rows that a loop without loader takes by an index: `x[idx]`, `y[idx]`, `weight[i:j]`, outside of every model.

Where a loss by hand reads more than the model's arguments and what it is compared with, this is what a replay needs:
recorded as it was taken, and given back at the same line.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch

from auditor.probe import batches
from auditor.probe.locate import Site, is_users
from auditor.probe.stepdata import StepData

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

MOST = 64  # of one step
DEPTH = 2  # frames between the user's line and `taken`


class TakenRows:
    """A part of the feed."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._turns: Counter[Site] = Counter()
        self.listening = bool(probe.spec.experiments)
        self.serving = False  # replays are fed by what was taken

    def taken(self, result: Any) -> Any:
        """What the indexing gives: itself in observation, the recorded rows in a replay."""
        if not isinstance(result, torch.Tensor) or result.requires_grad or not result.dim() or not result.numel():
            return result
        feed, frame = self._probe.feed, sys._getframe(DEPTH)
        if not torch.is_grad_enabled() or not is_users(frame.f_code.co_filename):
            return result
        line = ((frame.f_code.co_filename, frame.f_lineno),)
        if feed.feeding is None:
            self.listening = not feed.has_loader and self._probe.recording
            step = feed.step_at_hand()
            if self.listening and step is not None and len(step.rows) < MOST:
                feed.keep_rows(step, line, result)
            return result
        self.listening = self.serving
        return self._recorded(feed.recorded_step(), line, result) if self.serving else result

    def _recorded(self, step: StepData | None, line: Site, live: torch.Tensor) -> torch.Tensor:
        known = [rows for where, rows in step.rows if where == line] if step is not None else []
        turn, self._turns[line] = self._turns[line], self._turns[line] + 1
        if turn >= len(known):
            return live
        rows = known[turn]
        # The last batch of an epoch may have fewer.
        fits = rows.dtype == live.dtype and rows.dim() == live.dim() and rows.shape[1:] == live.shape[1:]
        return self._probe.feed.shaped(rows).clone() if fits else live

    def serve(self) -> bool:
        """From now on. False where the steps have taken nothing."""
        steps = self._probe.feed.steps[: self._probe.observed]
        self.serving = self.listening = bool(steps) and all(step.rows for step in steps[1:] or steps)
        return self.serving

    def step_ended(self) -> None:
        self._turns.clear()


def shaped_like(value: torch.Tensor, samples: int, rows: int | None) -> torch.Tensor:
    """Tiled where it has one entry a sample of the batch."""
    return batches.tile(value, samples) if rows is not None and value.shape[0] == rows else value
