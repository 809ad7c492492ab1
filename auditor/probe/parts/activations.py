"""Which units of a rectifier were ever active, over every sample of every sampled step."""

from __future__ import annotations

from typing import Any

import torch

from auditor.evidence import Activations, UnitActivity
from auditor.probe.collect import Collector, Unavailable, sampled
from auditor.probe.graph import producer
from auditor.probe.operations import BOUNDED, NORMALIZERS

LARGEST = 2**24  # elements of one output
ENOUGH = 600  # samples that a unit should have seen; small batches are watched at every step until then


class _Unit:
    """Accumulates one rectifier: the n-th one that a module calls in a forward."""

    def __init__(self, name: str, rectifier: str, location: Any) -> None:
        self.name, self.rectifier, self.location = name, rectifier, location
        self.active: list[torch.Tensor] = []  # (units,) per sampled step, share of samples above 0
        self.samples = 0


class ActivationsCollector(Collector):
    name = "activations"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._units: dict[tuple[int, int], _Unit] = {}
        self._calls: dict[int, int] = {}
        self._steps: list[int] = []
        self._pending: dict[tuple[int, int], tuple[torch.Tensor, int]] = {}
        self._rows_per_step: int | None = None
        self._planned = sum(map(sampled, range(min(probe.spec.steps, 1000))))  # steps watched in any case

    def watches(self, step: int) -> bool:
        """Every step for small batches: what the sampled steps alone would show is too little."""
        rows = self._rows_per_step
        return sampled(step) or (rows is not None and rows * self._planned < ENOUGH)

    def forward(self, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        self._calls = {}
        if self.watches(self.step) and (not self._steps or self._steps[-1] != self.step):
            self._steps.append(self.step)

    def operation(self, name: str, output: torch.Tensor) -> None:
        if name in NORMALIZERS or name in BOUNDED:
            return
        if output.dim() < 2 or output.numel() > LARGEST or not output.numel():
            return
        stack = self.probe.calls.stack
        owner = stack[-1] if stack else None
        index = self._calls.get(id(owner), 0)
        self._calls[id(owner)] = index + 1
        key = (id(owner), index)
        if key not in self._units:
            self._units[key] = self._new(owner, name, output)
        counts, rows = _active(output.detach())
        before = self._pending.get(key)
        if before is not None and before[0].shape == counts.shape:
            counts, rows = before[0] + counts, before[1] + rows
        self._pending[key] = (counts, rows)

    def _new(self, owner: Any, name: str, output: torch.Tensor) -> _Unit:
        names = self.probe.program.module_names()
        made_by = producer(output, self.probe) if output.grad_fn is not None else None
        layer = made_by.layer if made_by is not None and made_by.layer else names.get(id(owner), type(owner).__name__)
        location = (
            made_by.location if made_by is not None and made_by.location else self.probe.program.location_of(owner)
        )
        return _Unit(layer, name.rstrip("_"), location)

    def step_ended(self, step: Any) -> None:
        if self._pending and self._rows_per_step is None:
            self._rows_per_step = min(rows for _, rows in self._pending.values())
        for key, (counts, rows) in self._pending.items():
            unit = self._units[key]
            if not unit.active or unit.active[0].shape == counts.shape:
                unit.active.append(counts / rows)
                unit.samples += rows
        self._pending = {}

    def part(self) -> Activations:
        layers = [self._layer(unit) for unit in self._units.values() if unit.active]
        if not layers:
            raise Unavailable("no rectifier (ReLU) was seen in the training forward")
        return Activations(steps=tuple(self._steps), layers=tuple(layers))

    def _layer(self, unit: _Unit) -> UnitActivity:
        table = torch.stack(unit.active).cpu()  # (steps, units)
        late = table[-max(1, len(table) // 3) :]
        return UnitActivity(
            name=unit.name,
            rectifier=unit.rectifier,
            location=unit.location,
            units=table.shape[1],
            dead=int((table == 0).all(0).sum()),
            dead_start=int((table[0] == 0).sum()),
            dead_end=int((late == 0).all(0).sum()),
            samples=unit.samples,
            batches=len(table),
            active_share=float(table.mean()),
            constant=bool(((table == 0) | (table == 1)).all() and (table == 1).any()),
        )


def _active(output: torch.Tensor) -> tuple[torch.Tensor, int]:
    """(units,) number of samples and positions above 0, and how many there were. Units are channels of maps
    (N, C, H, W), else the last dimension."""
    positive = ~(output <= 0)  # a NaN is no dead unit
    if output.dim() >= 4:
        positive = positive.movedim(1, -1)
    flat = positive.reshape(-1, positive.shape[-1])
    return flat.sum(0).float(), flat.shape[0]
