"""Whether gradients are cleared between the steps of each optimizer, told from the gradients themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from auditor.evidence import GradientReset, GradientResets
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.parts.gradients import dense_gradients, norms
from auditor.probe.rewind import is_lazy
from auditor.probe.steps import StepSeen, fetch

CHECKED_STEPS = 8
BY_HAND = 0  # key of the updates that no optimizer makes
BY_HAND_NAME = "the loop's own update"
SAMPLED, ELEMENTS = 8, 64  # weights, and values of each, that tell whether there was such an update


@dataclass
class _Watch:
    """One optimizer since its last step."""

    parameters: list[torch.Tensor]
    steps: int = 0
    smallest: torch.Tensor | None = None  # least norm left over, over the backward calls since the last step
    leftovers: list[torch.Tensor | None] = field(default_factory=list)
    used: list[torch.Tensor | None] = field(default_factory=list)
    looked: bool = False
    before: list[torch.Tensor] = field(default_factory=list)  # samples of the weights after the last backward
    latest: torch.Tensor | None = None  # norm of their gradient then


class GradientResetsCollector(Collector):
    """At each backward, what is left of the gradient that the optimizer has already used? If, between two steps, there
    was never a moment at which it was zero or gone, the next step uses it again."""

    name = "gradient_resets"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._watches: dict[int, _Watch] = {}
        self._zero_grads = 0
        self._backward_location: Any = None

    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None:
        for key, watch in self._watches.items():
            if 0 < watch.steps <= CHECKED_STEPS:
                left = self._norm(watch.parameters)
                if key == BY_HAND and watch.latest is not None:  # what a loop scales on purpose is another gradient
                    left = left * (left == watch.latest)
                watch.smallest = left if watch.smallest is None else torch.minimum(watch.smallest, left)
                watch.looked = True

    def update_begins(self, optimizer: torch.optim.Optimizer | None, parameters: list[torch.Tensor]) -> None:
        watch = self._watches.setdefault(BY_HAND if optimizer is None else id(optimizer), _Watch(parameters))
        watch.parameters = parameters
        if optimizer is None and watch.steps <= CHECKED_STEPS:
            watch.before, watch.latest = _sample(parameters), self._norm(parameters)
        if 0 < watch.steps <= CHECKED_STEPS and watch.looked:
            watch.leftovers.append(watch.smallest)
            watch.used.append(self._norm(parameters))

    def update_ended(self, optimizer: torch.optim.Optimizer | None, parameters: list[torch.Tensor]) -> None:
        watch = self._watches.setdefault(BY_HAND if optimizer is None else id(optimizer), _Watch(parameters))
        if optimizer is not None or (watch.steps <= CHECKED_STEPS and _moved(watch.before, parameters)):
            watch.steps += 1
            watch.smallest, watch.looked = None, False

    def step_ended(self, step: StepSeen) -> None:
        self._zero_grads += step.zero_grads
        if self._backward_location is None and step.backwards:
            self._backward_location = step.backwards[0].location

    @staticmethod
    def _norm(parameters: list[torch.Tensor]) -> torch.Tensor:
        _, grads = dense_gradients(parameters)
        return norms(grads).square().sum().sqrt() if grads else torch.zeros(())

    def part(self) -> GradientResets:
        checked = [(key, watch) for key, watch in self._watches.items() if watch.leftovers]
        if not checked:
            raise Unavailable("fewer than two steps of an optimizer were seen", "inconclusive")
        return GradientResets(optimizers=tuple(self._reset(key, watch) for key, watch in checked))

    def _reset(self, key: int, watch: _Watch) -> GradientReset:
        record = next((seen for seen in self.probe.program.optimizers if id(seen.optimizer) == key), None)
        leftovers, used = fetch(watch.leftovers), fetch(watch.used)
        return GradientReset(
            optimizer=type(record.optimizer).__name__ if record is not None else BY_HAND_NAME,
            steps_checked=len(leftovers),
            stale_steps=sum(1 for value in leftovers if value > 0 or value != value),
            stale_norms=tuple(leftovers),
            grad_norms=tuple(used),
            zero_grad_calls=self._zero_grads,
            step_location=record.step_location if record is not None else None,
            backward_location=self._backward_location,
        )


def _sample(parameters: list[torch.Tensor]) -> list[torch.Tensor]:
    dense = [each for each in parameters if each.layout == torch.strided and not is_lazy(each)][:SAMPLED]
    return [each.detach().reshape(-1)[:ELEMENTS].clone() for each in dense]


def _moved(before: list[torch.Tensor], parameters: list[torch.Tensor]) -> bool:
    """An update by hand was made since the last backward."""
    now = _sample(parameters)
    same = len(now) == len(before) and all(a.shape == b.shape for a, b in zip(now, before, strict=True))
    return same and any(not torch.equal(a, b) for a, b in zip(now, before, strict=True))
