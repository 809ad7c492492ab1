"""Update-to-weight ratios at sampled steps, on a strided sample of each weight: no second copy of the model."""

from __future__ import annotations

from typing import Any

import torch

from auditor.evidence import LayerUpdates, Updates
from auditor.probe.collect import Collector, Unavailable, sampled
from auditor.probe.parts.gradients import norms

ELEMENTS = 4096  # per weight: the RMS over so many is within about one percent
SMALL = 1e-3  # weights whose RMS is below this (zero-initialised ones) have no meaningful ratio


class UpdatesCollector(Collector):
    name = "updates"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._ratios: list[tuple[int, tuple[int, ...], torch.Tensor]] = []

    def update_begins(self, optimizer: torch.optim.Optimizer | None, parameters: list[torch.Tensor]) -> None:
        if not sampled(self.step) or (optimizer is not None and self.probe.program.seen(optimizer).closure):
            return  # with a closure the update is over when the gradients become readable
        for parameter in parameters:
            if parameter.dim() >= 2 and parameter.grad is not None and parameter.is_floating_point():
                self._before[id(parameter)] = (parameter, _sample(parameter).clone())

    def update_ended(self, optimizer: torch.optim.Optimizer | None, parameters: list[torch.Tensor]) -> None:
        if not self._before:
            return
        before = [kept for _, kept in self._before.values()]
        changes = torch._foreach_sub([_sample(parameter) for parameter, _ in self._before.values()], before)
        counts = torch.tensor([kept.numel() for kept in before], dtype=torch.float64).sqrt()
        sizes = norms(before)
        # Both are norms over the same elements, so their ratio is that of the RMS values.
        ratios = norms(list(changes)) / sizes
        small = sizes <= SMALL * counts.to(sizes)
        self._ratios.append((self.step, tuple(self._before), ratios.masked_fill(small, float("nan"))))
        self._before = {}

    def part(self) -> Updates:
        if not self._ratios:
            raise Unavailable("no update of a weight was seen at a sampled step", "inconclusive")
        layers = self.probe.program.parameter_layers()
        table: dict[int, dict[int, float]] = {}
        for step, owners, vector in self._ratios:
            for owner, ratio in zip(owners, vector.tolist(), strict=True):
                table.setdefault(owner, {})[step] = float(f"{ratio:.4g}")
        steps = sorted({step for step, _, _ in self._ratios})
        return Updates(
            steps=tuple(steps),
            layers=tuple(
                LayerUpdates(
                    name=f"{layers[owner][0]}.{layers[owner][2]}" if owner in layers else "(other parameter)",
                    location=self.probe.program.location_of(layers[owner][1]) if owner in layers else None,
                    ratios=tuple(row.get(step, float("nan")) for step in steps),
                )
                for owner, row in table.items()
            ),
        )


def _sample(parameter: torch.Tensor) -> torch.Tensor:
    flat = parameter.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // ELEMENTS)]
