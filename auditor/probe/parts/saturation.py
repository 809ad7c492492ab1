"""Which units of bounded activations inside the model sit where their slope has vanished."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from auditor.evidence import Location, SaturatedLayer, Saturation
from auditor.probe.collect import Collector, Unavailable, sampled
from auditor.probe.consumers import Consumers
from auditor.probe.graph import producer

FLAT = 0.01  # of the largest slope
MOST = 0.85  # of a unit's samples that have to be there
LARGEST = 2**24
MOST_CALLS = 200  # of bounded functions in one forward: unrolled recurrences are cut there
# |output| beyond which the slope is below FLAT of its largest
_TANH = math.sqrt(1 - FLAT)
_SIGMOID = 0.5 + 0.5 * math.sqrt(1 - FLAT)


@dataclass
class _Unit:
    name: str
    function: str
    location: Location | None
    inside: bool = True  # not a gate, not the last layer
    checked: bool = False
    shares: list[torch.Tensor] = field(default_factory=list)  # (units,) saturated share of the samples, per step
    samples: int = 0


class SaturationCollector(Collector):
    name = "saturation"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._units: dict[tuple[int, int], _Unit] = {}
        self._calls: dict[int, int] = {}
        self._nodes: list[tuple[_Unit, Any]] = []
        self._pending: dict[tuple[int, int], torch.Tensor] = {}
        self._steps: list[int] = []

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._calls = {}
        if sampled(self.step) and (not self._steps or self._steps[-1] != self.step):
            self._steps.append(self.step)

    def operation(self, name: str, output: torch.Tensor) -> None:
        function = name.rstrip("_")
        if function not in ("tanh", "sigmoid", "hardtanh") or not sampled(self.step):
            return
        if output.dim() < 2 or not 0 < output.numel() <= LARGEST or output.grad_fn is None:
            return
        stack = self.probe.calls.stack
        owner = stack[-1] if stack else None
        index = self._calls.get(id(owner), 0)
        self._calls[id(owner)] = index + 1
        if index >= MOST_CALLS:
            return
        key = (id(owner), index)
        unit = self._units.get(key)
        if unit is None:
            unit = self._units[key] = self._new(owner, function, output)
        if not unit.checked:
            self._nodes.append((unit, output.grad_fn))
        flat = _saturated(function, output.detach())
        self._pending[key] = flat.float().mean(0)
        unit.samples += flat.shape[0]

    def _new(self, owner: Any, function: str, output: torch.Tensor) -> _Unit:
        made_by = producer(output, self.probe)
        names = self.probe.program.module_names()
        layer = made_by.layer or names.get(id(owner), type(owner).__name__)
        return _Unit(layer, function, made_by.location or self.probe.program.location_of(owner))

    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None:
        if not self._nodes:
            return
        graph = Consumers(roots)
        for unit, node in self._nodes:
            if graph.of(node):
                unit.inside = graph.reaches_layer(node) and not graph.gates(node)
                unit.checked = True
        self._nodes = []  # they keep the graph alive

    def inside(self) -> set[tuple[int, int]]:
        """Calls of bounded functions between two layers: id of the module, and which of its calls in a forward."""
        return {key for key, unit in self._units.items() if unit.inside and unit.checked}

    def step_ended(self, step: Any) -> None:
        for key, share in self._pending.items():
            unit = self._units[key]
            if not unit.shares or unit.shares[0].shape == share.shape:
                unit.shares.append(share)
        self._pending = {}

    def part(self) -> Saturation:
        layers = [unit for unit in self._units.values() if unit.inside and unit.checked and unit.shares]
        if not layers:
            raise Unavailable("no tanh, sigmoid or hardtanh inside the model was seen")
        return Saturation(steps=tuple(self._steps), layers=tuple(_describe(unit) for unit in layers))


def _saturated(function: str, output: torch.Tensor) -> torch.Tensor:
    """(samples and positions, units) bool. Units are channels of maps (N, C, H, W), else the last dimension."""
    if function == "tanh":
        flat = output.abs() > _TANH
    elif function == "sigmoid":
        flat = (output - 0.5).abs() > _SIGMOID - 0.5
    else:
        flat = (output == output.max()) | (output == output.min())  # the bounds themselves
    if output.dim() >= 4:
        flat = flat.movedim(1, -1)
    return flat.reshape(-1, flat.shape[-1])


def _describe(unit: _Unit) -> SaturatedLayer:
    table = torch.stack(unit.shares).cpu()  # (steps, units)
    start, end = table[: max(1, len(table) // 3)].mean(0), table[-max(1, len(table) // 3) :].mean(0)
    return SaturatedLayer(
        name=unit.name,
        function=unit.function,
        location=unit.location,
        units=table.shape[1],
        saturated_start=int((start > MOST).sum()),
        saturated_end=int((end > MOST).sum()),
        share_start=float(start.mean()),
        share_end=float(end.mean()),
        samples=unit.samples,
    )
