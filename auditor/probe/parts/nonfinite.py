"""The first step whose loss or gradient was NaN or infinite, and running statistics that are so ever since."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn.modules.batchnorm import _NormBase

from auditor.evidence import Location, Nonfinite
from auditor.probe.collect import Collector, Unavailable, sampled
from auditor.probe.losscall import LossCall
from auditor.probe.steps import StepSeen, fetch


class NonfiniteCollector(Collector):
    name = "nonfinite"
    looks_on = True

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._skipped = 0
        self._locations: list[Location | None] = []
        self._late: list[torch.Tensor | None] = []  # losses of the steps after the observed ones
        self._late_skips: set[int] = set()
        self._targets: dict[int, torch.Tensor] = {}  # step -> 0-d: sum of the targets of its last loss call
        self._statistics: dict[str, torch.Tensor] = {}  # 0-d: sum of the running statistics of a layer, the latest

    def loss_called(self, call: LossCall) -> None:
        target = call.target
        if target.is_floating_point() and target.numel() and not target.requires_grad:
            low = target.dtype in (torch.float16, torch.bfloat16)  # finite numbers overflow in their sum
            self._targets[self.step] = target.detach().sum(dtype=torch.float32 if low else None)

    def _bad_target(self, step: int) -> bool:
        return step in self._targets and not bool(torch.isfinite(self._targets[step]))

    def step_ended(self, step: StepSeen) -> None:
        self._skipped += step.skipped
        if self.probe.looking_on:
            self._late.append(step.loss())
            if step.skipped:
                self._late_skips.add(self.step)
        self._locations.append(step.backwards[0].location if step.backwards else None)
        # A loop that gives up a step with a loss of NaN has run the forward, which has moved them.
        if sampled(self.step):
            self._look_at_statistics()

    def _look_at_statistics(self) -> None:
        names = self.probe.program.module_names()
        for _, model in self.probe.program.models():
            for layer in model.modules():
                if isinstance(layer, _NormBase) and layer.running_mean is not None and layer.running_var is not None:
                    total = layer.running_mean.detach().sum() + layer.running_var.detach().sum()
                    self._statistics[names.get(id(layer), type(layer).__name__)] = total

    def _late_losses(self) -> list[float]:
        known = fetch(self._late)
        return [0.0 if kept is None else loss for kept, loss in zip(self._late, known, strict=True)]

    def _spoilt(self) -> tuple[str, ...]:
        return tuple(name for name, total in self._statistics.items() if not bool(torch.isfinite(total)))

    def part(self) -> Nonfinite:
        trajectory = self.probe.collectors.find("trajectory")
        losses, norms = [*trajectory.losses(), *self._late_losses()], trajectory.norms()
        if not losses:
            raise Unavailable("no training step was complete", "inconclusive")
        skipped = {*trajectory.skipped(), *self._late_skips}
        bad_loss = next((i for i, loss in enumerate(losses) if not math.isfinite(loss) and i not in skipped), None)
        bad_norm = next((i for i, norm in enumerate(norms) if norm is not None and not math.isfinite(norm)), None)
        found = [step for step in (bad_loss, bad_norm) if step is not None]
        if not found:
            return Nonfinite(steps_checked=len(losses), scaler_skipped=self._skipped, spoilt=self._spoilt())
        first = min(found)
        inputs = self.probe.collectors.find("inputs")
        return Nonfinite(
            steps_checked=len(losses),
            first_step=first,
            what="loss" if first == bad_loss else "gradient",
            location=self._locations[first],
            loss_location=self._locations[first],
            input_nonfinite=inputs.saw_nonfinite(first),
            target_nonfinite=self._bad_target(first),
            scaler_skipped=self._skipped,
            spoilt=self._spoilt(),
            losses_before=tuple(losses[max(0, first - 10) : first]),
        )
