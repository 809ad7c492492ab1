"""What experiments ask about the loop that was observed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from auditor.evidence import Nonfinite
from auditor.probe.collect import Collectors, Unavailable
from auditor.probe.lossfacts import LossFacts
from auditor.probe.parts.inputs import InputsCollector
from auditor.probe.program import ProgramSeen
from auditor.probe.randomness import RandomState
from auditor.probe.standing import Standing

if TYPE_CHECKING:
    from auditor.probe.feed import Feed

COMPARED_STATES = 3  # steps whose random numbers are compared before and after


LOWERED = 1e-3  # relative: more than rounding


class Questions(Standing):
    """The half of the probe that answers; what it reads is filled by the other half."""

    program: ProgramSeen
    collectors: Collectors
    feed: Feed
    forward_states: list[RandomState]
    boundary_states: list[RandomState]
    recorded_groups: dict[tuple[int, int], list[dict[str, Any]]]
    _loss_facts: LossFacts

    def observed_losses(self) -> list[float]:
        return list(self.collectors.find("trajectory").losses())

    def reference_rate(self) -> float:
        """The highest learning rate of the first group that the observed loop has used."""
        record = self.program.stepped()[0]
        rates = [float(group.get("lr", 0.0)) for group in self.recorded_groups.get((id(record.optimizer), 0), [])]
        return max(rates) if rates else rate_of(record.optimizer, 0)

    def rate_comes_down(self) -> bool:
        """The latest observed rate of the first group is below the highest: a schedule is on its way down."""
        record = self.program.stepped()[0]
        rates = [float(group.get("lr", 0.0)) for group in self.recorded_groups.get((id(record.optimizer), 0), [])]
        return bool(rates) and rates[-1] < (1 - LOWERED) * max(rates)

    def saw_nonfinite(self) -> bool:
        """In a step whose batch is recorded."""
        part = self.nonfinite_part()
        return part is not None and part.first_step is not None and part.first_step < self.observed

    def nonfinite_part(self) -> Nonfinite | None:
        try:
            return self.collectors.find("nonfinite").part()  # type: ignore[no-any-return]
        except Unavailable:
            return None

    def inputs(self) -> InputsCollector | None:
        collector = self.collectors.find("inputs")
        return collector if collector is not None and collector.seen else None

    def draws_random_numbers(self) -> bool:
        """True when an observed step, between its data and its end, drew from a global random number generator."""
        starts = self.feed.noise_states() if self.feed.has_loader else self.forward_states
        ends = self.boundary_states
        return not starts or any(a.differs(b) for a, b in zip(starts[:COMPARED_STATES], ends, strict=False))

    def needs_noise(self, states: list[RandomState]) -> bool:
        """With a loader, what a step draws is replayed from its fetch; these then only tell whether it draws at all."""
        return not self.feed.has_loader or len(states) < COMPARED_STATES

    def loss_facts(self) -> LossFacts:
        return self._loss_facts


def rate_of(optimizer: torch.optim.Optimizer, group: int) -> float:
    """Learning rate of one group, without synchronising for a rate that lives on a device."""
    rate = optimizer.param_groups[group].get("lr", float("nan"))
    if isinstance(rate, torch.Tensor) and rate.device.type != "cpu":
        return float("nan")
    return float(rate)
