"""Steps: what happened since the last boundary, and where the next boundary is.

A step ends where the optimizer has stepped. With several optimizers it ends at the last one of their cycle; without
any, at the next forward or fetch after a backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from auditor.evidence import Location


@dataclass
class BackwardSeen:
    """One backward() call; `value` is detached, still on its device, the loss scale taken off."""

    value: torch.Tensor
    location: Location | None

    def total(self) -> torch.Tensor:
        """0-d tensor."""
        return self.value if self.value.dim() == 0 else self.value.sum()


@dataclass
class StepSeen:
    """What the loop did in one step."""

    backwards: list[BackwardSeen] = field(default_factory=list)
    updates: list[int] = field(default_factory=list)  # ids of the optimizers that stepped, in order
    learning_rate: float = float("nan")
    zero_grads: int = 0
    skipped: bool = False
    _loss: torch.Tensor | None = None

    def loss(self) -> torch.Tensor | None:
        """0-d tensor: sum of what backward() was called on, loss scale removed."""
        if self._loss is None and self.backwards:
            values = [backward.total() for backward in self.backwards]
            whole = values[0]
            for value in values[1:]:
                whole = whole + value.to(whole.device)
            self._loss = whole
        return self._loss


class Steps:
    """Counts and cuts the user's loop into steps."""

    def __init__(self) -> None:
        self.in_backward = False
        self.updates = 0
        self.backwards = 0
        self.zero_grad_calls = 0
        self.current = StepSeen()
        self.forwards = 0  # training forwards of a root in the current step
        self.root: torch.nn.Module | None = None  # the latest one
        self.interleaved = False  # several optimizers with backward calls in between: adversarial training
        self.replaced_after: int | None = None  # steps, until none of the first step's optimizers was used any more
        self._first: frozenset[int] = frozenset()
        self._closed = 0
        self._order: list[int] = []
        self._last: int | None = None
        self._between = 0  # backward calls since the last update
        self._turns: list[int] = []  # optimizers that stepped right after a backward, the latest last
        self._scaled: tuple[int, torch.Tensor, torch.Tensor] | None = None

    def scaled(self, outputs: torch.Tensor, result: torch.Tensor) -> None:
        """GradScaler.scale was called: remember both, so that the backward of `result` is known unscaled."""
        self._scaled = (id(result), outputs.detach(), result.detach())

    def backward(self, roots: tuple[torch.Tensor, ...], location: Location | None) -> None:
        self.backwards += 1
        self._between += 1
        for root in roots:
            value = root.detach()
            if self._scaled is not None and self._scaled[0] == id(root):
                value = self._scaled[1]
            self.current.backwards.append(BackwardSeen(value.clone(), location))
        self._scaled = None

    def update(self, optimizer: object) -> bool:
        """An optimizer has stepped. True when that ends the step."""
        self.updates += 1
        key = id(optimizer)
        if key in self._order:
            if self._last is None:
                self._last = self._order[-1]
        else:
            self._order.append(key)
            if self._last is not None or len(self._order) > 1:
                self._last = None  # a new optimizer joined: the cycle has to be learnt again
        if self._between:
            # Back to an optimizer after another one had a backward of its own: they take turns.
            since = self._turns[self._turns.index(key) + 1 :] if key in self._turns else []
            self.interleaved = self.interleaved or bool(since)
            self._turns = [turn for turn in self._turns if turn != key] + [key]
        self._between = 0
        self.current.updates.append(key)
        return key == (self._last if self._last is not None else self._order[0])

    def close(self) -> StepSeen:
        """End the step and begin the next."""
        done = self.current
        done.zero_grads = self.zero_grad_calls
        updates = frozenset(done.updates)
        self._first = self._first or updates
        if self.replaced_after is None and updates and not updates & self._first:
            self.replaced_after = self._closed
        self._closed += 1
        self.zero_grad_calls = 0
        self.forwards = 0
        self.current = StepSeen()
        return done


def fetch(values: Sequence[torch.Tensor | None]) -> list[float]:
    """Many 0-d tensors to the host with one synchronisation per device and dtype; None becomes NaN."""
    result = [float("nan")] * len(values)
    groups: dict[Any, list[int]] = {}
    for index, value in enumerate(values):
        if value is not None:
            groups.setdefault((value.device, value.dtype), []).append(index)
    for indices in groups.values():
        stacked = torch.stack([_scalar(values[index]) for index in indices]).double()
        for index, number in zip(indices, stacked.tolist(), strict=True):
            result[index] = number
    return result


def _scalar(value: Any) -> torch.Tensor:
    plain: torch.Tensor = value.detach()
    return plain.reshape(()) if plain.dim() else plain
