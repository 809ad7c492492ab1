"""Output units of a weight that are equal to each other, before the first step and after the last."""

from __future__ import annotations

import torch
from torch import nn

from auditor.evidence import LayerSymmetry, Symmetry
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.held import held

LARGEST = 2**26  # elements; larger weights are embeddings, whose rows are no units
BLOCK = 2**20  # elements compared at once
CLOSE = 1e-6  # relative distance of rows that count as equal after some steps


class SymmetryCollector(Collector):
    name = "symmetry"

    def part(self) -> Symmetry:
        initial = self.probe.initial
        if initial is None or not self.probe.observed:
            raise Unavailable("no training step was complete", "inconclusive")
        trained = {id(parameter) for parameter in self.probe.program.trained_parameters()}
        reached = self.probe.collectors.find("gradients").reached()
        layers = []
        for name, module in self.probe.program.layers():
            if isinstance(module, nn.Embedding | nn.EmbeddingBag):
                continue
            for own, weight in module.named_parameters(recurse=False):
                if own.startswith("bias") or weight.dim() < 2 or weight.numel() > LARGEST or id(weight) not in trained:
                    continue
                before = initial.initial(weight)
                if before is not None and units_of(before, module).shape[0] > 1:
                    layers.append(self._layer(name, own, module, weight, before, id(weight) in reached))
        if not layers:
            raise Unavailable("the model has no trained weight with several output units")
        return Symmetry(steps=self.probe.observed, layers=tuple(layers))

    def _layer(
        self, name: str, own: str, module: nn.Module, weight: torch.Tensor, before: torch.Tensor, reached: bool
    ) -> LayerSymmetry:
        after = weight.detach().cpu()
        bias = held(module, own.replace("weight", "bias"))
        start, end = units_of(before, module), units_of(after, module)
        first, last = None, None
        if bias is not None and bias.shape == (start.shape[0],) and self.probe.initial is not None:
            first, last = self.probe.initial.initial(bias), bias.detach().cpu()
        return LayerSymmetry(
            name=name if own == "weight" else f"{name}.{own}",
            location=self.probe.program.location_of(module),
            units=start.shape[0],
            duplicates_start=duplicates(start, first, 0.0),
            duplicates_end=duplicates(end, last, CLOSE),
            gradient_nonzero=reached,
            moved=not torch.equal(before, after),
            zero_start=not bool(before.any()),
        )


def units_of(weight: torch.Tensor, module: nn.Module) -> torch.Tensor:
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
