"""Which random number generators the script had seeded when it drew its weights and batches."""

from __future__ import annotations

from typing import Any

from auditor.evidence import Seeding
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.steps import StepSeen

STEPS = 3  # by then, weights, shuffling, augmentation and dropout have been drawn


class SeedingCollector(Collector):
    name = "seeding"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._part: Seeding | None = None

    def step_ended(self, step: StepSeen) -> None:
        if self.step <= STEPS:
            self._look()

    def _look(self) -> None:
        seeds = self.probe.seeds
        self._part = Seeding(drawn=seeds.drawn(), unseeded=seeds.unseeded(), by_audit=self.probe.spec.seed is not None)

    def part(self) -> Seeding:
        if self._part is None:
            raise Unavailable("no complete training step was seen", "inconclusive")
        return self._part
