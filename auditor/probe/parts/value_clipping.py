"""What clipping by value does to the direction of the gradient."""

from __future__ import annotations

from typing import Any

import torch

from auditor.evidence import Location, ValueClipping
from auditor.probe.collect import Collector, Unavailable, sampled
from auditor.probe.parts.gradients import dense_gradients
from auditor.probe.steps import fetch


class ValueClippingCollector(Collector):
    name = "value_clipping"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._limit = 0.0
        self._location: Location | None = None
        self._steps: list[int] = []
        self._cosines: list[torch.Tensor] = []
        self._shares: list[torch.Tensor] = []

    def clip_begins(self, kind: str, parameters: Any, limit: float) -> None:
        if kind != "value" or not sampled(self.step) or self.step in self._steps:
            return
        given = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
        _, grads = dense_gradients([parameter for parameter in given if isinstance(parameter, torch.Tensor)])
        if not grads:
            return
        sums = torch.zeros(5, dtype=torch.float64)  # raw·clipped, raw², clipped², elements cut, elements not zero
        for grad in grads:
            raw = grad.float()
            cut = raw.clamp(-limit, limit)
            parts = [(raw * cut).sum(), raw.square().sum(), cut.square().sum(), (raw != cut).sum(), (raw != 0).sum()]
            sums = sums.to(grad.device) + torch.stack([part.double() for part in parts])
        self._limit = limit
        self._steps.append(self.step)
        self._cosines.append(sums[0] / (sums[1] * sums[2]).sqrt())
        self._shares.append(sums[3] / sums[4].clamp(min=1))

    def clipped(self, kind: str, limit: float, result: Any, location: Location | None) -> None:
        if kind == "value" and self._location is None:
            self._location = location

    def part(self) -> ValueClipping:
        if not self._steps:
            raise Unavailable("gradients are not clipped by value")
        return ValueClipping(
            limit=self._limit,
            steps=tuple(self._steps),
            cosines=tuple(fetch(list(self._cosines))),
            shares=tuple(fetch(list(self._shares))),
            location=self._location,
        )
