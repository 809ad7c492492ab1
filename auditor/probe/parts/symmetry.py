"""Output units of a weight that are equal to each other, before the first step and after the last."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from auditor.evidence import LayerSymmetry, Location, Symmetry
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.copies import copied_weights
from auditor.probe.held import held

LARGEST = 2**26  # elements; larger weights are tables of embeddings
BLOCK = 2**20  # elements compared at once
CLOSE = 1e-6  # relative distance of rows that count as equal after some steps


class SymmetryCollector(Collector):
    name = "symmetry"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self.moved: dict[int, bool] = {}  # id of a weight that began at zero -> it has left, when the observation ended

    def part(self) -> Symmetry:
        initial = self.probe.initial
        if initial is None or not self.probe.observed:
            raise Unavailable("no training step was complete", "inconclusive")
        trained = {id(parameter) for parameter in self.probe.program.trained_parameters()}
        reached = self.probe.collectors.find("gradients").reached()
        layers = []
        weights: list[tuple[str, torch.Tensor, torch.Tensor]] = []
        for name, module in self.probe.program.layers():
            for own, weight in module.named_parameters(recurse=False):
                if own.startswith("bias") or weight.dim() < 2 or weight.numel() > LARGEST or id(weight) not in trained:
                    continue
                before = initial.initial(weight)
                if before is not None and _has_units(before, module):
                    layers.append(self._layer(name, own, module, weight, before, id(weight) in reached))
                    weights.append((layers[-1].name, weight, before))
        owned = self.probe.program.parameter_layers()
        for index, loose in enumerate(self.probe.program.trained_parameters()):
            before = initial.initial(loose) if id(loose) not in owned and loose.dim() >= 2 else None
            if before is not None and loose.numel() <= LARGEST and _has_units(before, None):
                layers.append(self._layer(f"parameter {index}", "weight", None, loose, before, id(loose) in reached))
        if not layers:
            raise Unavailable("the model has no trained weight with several output units")
        copies = (
            found.model_copy(update={"location": self._around(found.names[0])})
            for found in copied_weights(weights, reached)
        )
        return Symmetry(steps=self.probe.observed, layers=tuple(layers), copies=tuple(copies))

    def _around(self, name: str) -> Location | None:
        """Where the innermost module was built that contains the layer: a copy is not built anywhere."""
        program = self.probe.program
        modules = (each for _, model in program.models() for each in model.named_modules())
        places = {own: program.location_of(module) for own, module in modules}
        while name and places.get(name) is None:
            name = name.rpartition(".")[0]
        return places.get(name)

    def _layer(
        self, name: str, own: str, module: nn.Module | None, weight: torch.Tensor, before: torch.Tensor, reached: bool
    ) -> LayerSymmetry:
        after = weight.detach().cpu()
        zero_start = not bool(before.any())
        if zero_start:
            self.moved[id(weight)] = bool(after.any())
        table = isinstance(module, nn.Embedding | nn.EmbeddingBag)
        bias = held(module, own.replace("weight", "bias")) if module is not None else None
        start, end = units_of(before, module), units_of(after, module)
        first, last = None, None
        if table or (_loose(before, module) and _lasting(start.T, end.T) > _lasting(start, end)):
            # Of a matrix written as `x @ weight`, and of a table, whose rows are entries: the columns.
            start, end, bias = start.T.contiguous(), end.T.contiguous(), None
        if bias is not None and bias.shape == (start.shape[0],) and self.probe.initial is not None:
            first, last = self.probe.initial.initial(bias), bias.detach().cpu()
        return LayerSymmetry(
            name=name if own == "weight" else f"{name}.{own}",
            location=self.probe.program.location_of(module) if module is not None else self._optimizer(),
            units=start.shape[0],
            duplicates_start=duplicates(start, first, 0.0),
            duplicates_end=duplicates(end, last, CLOSE),
            gradient_nonzero=reached,
            moved=not torch.equal(before, after),
            zero_start=zero_start,
            table=table,
        )

    def _optimizer(self) -> Location | None:
        """Where the optimizer of parameters that no module owns was built."""
        return next((record.location for record in self.probe.program.stepped()), None)


def _loose(weight: torch.Tensor, module: nn.Module | None) -> bool:
    """A matrix that is no weight of one of torch's own layers: its units may be its rows or its columns."""
    own = module is not None and type(module).__module__.startswith("torch.nn")
    return weight.dim() == 2 and min(weight.shape) > 1 and (not own or isinstance(module, nn.ParameterList))


def _has_units(weight: torch.Tensor, module: nn.Module | None) -> bool:
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return weight.shape[1] > 1 and weight.shape[0] > 0
    return units_of(weight, module).shape[0] > 1 and bool(units_of(weight, module).shape[1])


def _lasting(start: torch.Tensor, end: torch.Tensor) -> float:
    """Share of the rows that equal an earlier one, before the first step and after the last."""
    found = duplicates(start, None, 0.0)
    return min(found, duplicates(end, None, CLOSE)) / (start.shape[0] - 1) if found else 0.0


def units_of(weight: torch.Tensor, module: nn.Module | None) -> torch.Tensor:
    """(units, fan-in) rows, one per output unit; transposed convolutions keep their units in dimension 1."""
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d) and module.groups == 1:
        weight = weight.transpose(0, 1)
    return weight.reshape(weight.shape[0], -1)


def duplicates(rows: torch.Tensor, bias: torch.Tensor | None, tolerance: float) -> int:
    """Rows, each with its bias, equal to an earlier one, to a relative `tolerance` (0: bit-equal).

    Rows are sorted by a fixed random projection, so equal ones are neighbours; neighbours are then compared in full. In
    blocks, because the whole in double precision would be more than a model's memory may grow by.
    """
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(rows.shape[1] + 1, generator=generator, dtype=torch.float64)
    block = max(1, BLOCK // rows.shape[1])
    projection = torch.cat([part.double() @ vector[:-1] for part in torch.split(rows, block)])
    if bias is not None:
        projection = projection + bias.double() * vector[-1]
    order = projection.argsort()
    found = 0
    for start in range(0, len(order) - 1, block):
        rank = order[start : start + block + 1]
        values = rows[rank].double()
        distance, size = (values[1:] - values[:-1]).abs().amax(1), values[1:].abs().amax(1)
        if bias is not None:
            own = bias[rank].double()
            distance = torch.maximum(distance, (own[1:] - own[:-1]).abs())
            size = torch.maximum(size, own[1:].abs())
        found += int((distance <= tolerance * size).sum())
    return found
