"""Continuous targets, as a regression loss receives them."""

from __future__ import annotations

import math
from typing import Any

import torch

from auditor.evidence import Targets
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.losscall import LossCall

# Loss -> the power of the targets' unit that it is measured in, far from its minimum.
REGRESSIONS = {"mse_loss": 2, "l1_loss": 1, "smooth_l1_loss": 1, "huber_loss": 1}
STEPS = 30


class TargetsCollector(Collector):
    name = "targets"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self.call: LossCall | None = None  # name and options of the first one; its tensors are not kept
        self._pieces: list[torch.Tensor] = []  # (5,) per call: count, sum, sum of squares, -min, max

    def loss_called(self, call: LossCall) -> None:
        if call.name not in REGRESSIONS or self.step >= STEPS or call.in_model:
            return
        if not call.target.is_floating_point() or call.target.requires_grad or not call.target.numel():
            return
        if self.call is None:
            empty = torch.empty(0)
            self.call = LossCall(call.name, empty, empty, call.options, empty, call.location)
        if (call.name, call.location) != (self.call.name, self.call.location):
            return
        values = call.target.detach().double()
        count = values.new_tensor(float(values.numel()))
        self._pieces.append(torch.stack([count, values.sum(), values.square().sum(), -values.min(), values.max()]))

    def moments(self) -> tuple[float, float] | None:
        """Mean and standard deviation; None where there are none."""
        if not self._pieces:
            return None
        table = torch.stack(self._pieces).cpu()
        count, total, squares = table[:, :3].sum(0).tolist()
        mean = total / count
        variance = max(0.0, squares / count - mean**2)
        return mean, math.sqrt(variance) if variance > 1e-12 * mean**2 else 0.0

    def part(self) -> Targets:
        moments = self.moments()
        if self.call is None or moments is None:
            raise Unavailable("no regression loss of torch was called with targets of the data")
        table = torch.stack(self._pieces).cpu()
        training = next((loader for loader in self.probe.program.loaders if loader.training_credits), None)
        return Targets(
            function=self.call.name,
            values=int(table[:, 0].sum()),
            mean=moments[0],
            std=moments[1],
            min=-float(table[:, 3].max()),
            max=float(table[:, 4].max()),
            location=self.call.location,
            data_location=training.location if training is not None else None,
        )
