"""Losses, learning rates and gradient norms of the observed steps."""

from __future__ import annotations

import math
from typing import Any

import torch

from auditor.evidence import Location, LossSeries, Trajectory
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.losscall import LossCall
from auditor.probe.steps import StepSeen, fetch

NAN = math.nan


class TrajectoryCollector(Collector):
    name = "trajectory"
    turn = 1

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._losses: list[torch.Tensor | None] = []
        self._rates: list[float] = []
        self._norms: list[torch.Tensor | None] = []
        self._before_clipping: list[torch.Tensor | None] = []
        self._clip_norm: torch.Tensor | None = None
        self._skipped: list[int] = []
        self._sites: dict[Location | None, list[tuple[int, torch.Tensor]]] = {}
        self._held_out: dict[int, list[torch.Tensor]] = {}

    def clipped(self, kind: str, limit: float, result: Any, location: Location | None) -> None:
        if kind == "norm" and isinstance(result, torch.Tensor) and self._clip_norm is None:
            self._clip_norm = result.detach()

    def evaluation_loss(self, call: LossCall) -> None:
        if call.result.dim() == 0:
            self._held_out.setdefault(self.step, []).append(call.result.detach())

    def step_ended(self, step: StepSeen) -> None:
        gradients = self.probe.collectors.find("gradients")
        self._losses.append(step.loss())
        self._rates.append(step.learning_rate)
        self._norms.append(gradients.latest if not step.skipped else None)
        self._before_clipping.append(self._clip_norm)
        self._clip_norm = None
        if step.skipped:
            self._skipped.append(self.step)
        for backward in step.backwards:
            self._sites.setdefault(backward.location, []).append((self.step, backward.total()))

    def losses(self) -> list[float]:
        """Fetches. Between steps only."""
        return fetch(self._losses)

    def norms(self) -> list[float | None]:
        """Per step, None where no gradient was used. Fetches."""
        return [None if kept is None else value for kept, value in zip(self._norms, fetch(self._norms), strict=True)]

    def skipped(self) -> list[int]:
        return self._skipped

    def part(self) -> Trajectory:
        if not self._losses:
            raise Unavailable("no training step was complete", "inconclusive")
        used, raw = fetch(self._norms), fetch(self._before_clipping)
        clipping = any(not math.isnan(value) for value in raw)
        return Trajectory(
            replaced_after=self.probe.loop.replaced_after,
            losses=tuple(self.losses()),
            learning_rates=tuple(self._rates),
            grad_norms=tuple(b if not math.isnan(b) else a for a, b in zip(used, raw, strict=True)),
            clipped_norms=tuple(used) if clipping else (),
            epoch_starts=tuple(sorted(set(self.probe.feed.epoch_starts))),
            series=self._series(),
            held_out=self._evaluations(),
            skipped_steps=tuple(self._skipped),
        )

    def _series(self) -> tuple[LossSeries, ...]:
        if len(self._sites) < 2:
            return ()
        result = []
        for location, seen in self._sites.items():
            label = f"backward() in line {location.line}" if location else "backward()"
            steps, values = [step for step, _ in seen], fetch([value for _, value in seen])
            result.append(LossSeries(label=label, location=location, steps=tuple(steps), values=tuple(values)))
        return tuple(result)

    def _evaluations(self) -> tuple[tuple[int, float], ...]:
        means = [
            (step, torch.stack([v.float().cpu() for v in values]).mean()) for step, values in self._held_out.items()
        ]
        return tuple(zip([step for step, _ in means], fetch([mean for _, mean in means]), strict=True))
