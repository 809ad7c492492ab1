"""What was measured of each layer, for the table of a model: gradient norm, update ratio, dead units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from auditor.evidence import Evidence

from .scale import finite
from .words import number, percent


@dataclass(frozen=True)
class Measured:
    """Columns of numbers by layer; only those that hold one."""

    head: tuple[str, ...]
    columns: tuple[dict[str, str], ...]

    def cells(self, layer: str) -> list[str]:
        return [column.get(layer, "–") for column in self.columns]


def measured(evidence: Evidence) -> Measured:
    """Of every layer of the evidence; names are those of the program."""
    norms = {layer.name: number(_median(layer.norms)) for layer in _layers(evidence.gradients) if layer.norms}
    ratios = {name.removesuffix(".weight"): number(_median(ratios)) for name, ratios in _ratios(evidence) if ratios}
    dead = {layer.name: percent(layer.dead / layer.units) for layer in _layers(evidence.activations) if layer.units}
    named = (("gradient norm", norms), ("update to weight", ratios), ("dead units", dead))
    used = [(title, column) for title, column in named if column]
    return Measured(tuple(title for title, _ in used), tuple(column for _, column in used))


def _layers(part: object) -> Iterable[Any]:
    return getattr(part, "layers", ())


def _ratios(evidence: Evidence) -> Iterable[tuple[str, Sequence[float]]]:
    return [(layer.name, layer.ratios) for layer in _layers(evidence.updates) if not layer.name.endswith(".bias")]


def _median(values: Sequence[float]) -> float | None:
    real = sorted(filter(finite, values))
    return real[len(real) // 2] if real else None
