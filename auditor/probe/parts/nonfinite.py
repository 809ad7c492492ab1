"""The first step whose loss or gradient was NaN or infinite."""

from __future__ import annotations

import math
from typing import Any

from auditor.evidence import Location, Nonfinite
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.steps import StepSeen


class NonfiniteCollector(Collector):
    name = "nonfinite"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._skipped = 0
        self._locations: list[Location | None] = []

    def step_ended(self, step: StepSeen) -> None:
        self._skipped += step.skipped
        self._locations.append(step.backwards[0].location if step.backwards else None)

    def part(self) -> Nonfinite:
        trajectory = self.probe.collectors.find("trajectory")
        losses, norms = trajectory.losses(), trajectory.norms()
        if not losses:
            raise Unavailable("no training step was complete", "inconclusive")
        skipped = set(trajectory.skipped())
        bad_loss = next((i for i, loss in enumerate(losses) if not math.isfinite(loss) and i not in skipped), None)
        bad_norm = next((i for i, norm in enumerate(norms) if norm is not None and not math.isfinite(norm)), None)
        found = [step for step in (bad_loss, bad_norm) if step is not None]
        if not found:
            return Nonfinite(steps_checked=len(losses), scaler_skipped=self._skipped)
        first = min(found)
        inputs = self.probe.collectors.find("inputs")
        return Nonfinite(
            steps_checked=len(losses),
            first_step=first,
            what="loss" if first == bad_loss else "gradient",
            location=self._locations[first],
            loss_location=self._locations[first],
            input_nonfinite=inputs.saw_nonfinite(first),
            scaler_skipped=self._skipped,
            losses_before=tuple(losses[max(0, first - 10) : first]),
        )
