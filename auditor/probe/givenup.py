"""Losses that are not finite and that the loop gives up: `if not torch.isfinite(loss): continue`.

No backward() is ever called on these, so they are looked for where they still lie: in the variables of the user's own
functions that held the loss of other steps, when the next forward comes and no backward has come since the last one.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from types import CodeType
from typing import Any

import torch

from auditor.probe.locate import user_frames

NAMED = 8  # backward calls whose variables are learnt
MOST_LOOKS = 1000
Variable = tuple[CodeType, str]


class GivenUpLosses:
    def __init__(self) -> None:
        self._names: set[Variable] = set()  # variables that held a loss when backward() was called
        self._named = 0
        self._open = False  # a forward that no backward has followed yet
        self._looks = 0
        self._latest: dict[Variable, Any] = {}  # weak references: a variable that keeps its tensor is counted once
        self._found: list[tuple[Variable, torch.Tensor]] = []  # beside each, 0-d: its loss is not finite

    def forward(self) -> None:
        if self._open and self._looks < MOST_LOOKS:
            self._looks += 1
            self._look()
        self._open = True

    def backward(self) -> None:
        self._open = False
        if self._named < NAMED:
            self._named += 1
            self._names.update(variable for variable, _ in _losses(1))

    def _look(self) -> None:
        for variable, loss in _losses():
            known = self._latest.get(variable)
            if known is None or known() is not loss:
                self._latest[variable] = weakref.ref(loss)
                self._found.append((variable, ~torch.isfinite(loss.detach())))

    def count(self) -> int:
        """Synchronises."""
        flags = [flag.cpu() for variable, flag in self._found if variable in self._names]
        return int(torch.stack(flags).sum()) if flags else 0


def _losses(frames: int | None = None) -> Iterator[tuple[Variable, torch.Tensor]]:
    """Numbers with a graph in the variables of the user's functions at work, the innermost `frames` of them."""
    for frame in user_frames(frames):
        for name, value in list(frame.f_locals.items()):
            if type(value) is torch.Tensor and value.dim() == 0 and value.grad_fn is not None:
                yield (frame.f_code, name), value
