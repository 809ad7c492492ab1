"""Gradient norms per layer, at every step: one fused call, left on the device."""

from __future__ import annotations

import math
from typing import Any

import torch

from auditor.evidence import Gradients, LayerGradients
from auditor.probe.collect import Collector, Unavailable


def dense_gradients(parameters: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """(parameters that have a gradient, their gradients); a sparse gradient gives its values."""
    owners, grads = [], []
    for parameter in parameters:
        grad = parameter.grad
        if grad is None:
            continue
        if grad.is_sparse:
            grad = grad.coalesce()._values()
        owners.append(parameter)
        grads.append(grad.detach())
    return owners, grads


def norms(tensors: list[torch.Tensor]) -> torch.Tensor:
    """(n,) L2 norms in float32 or better, without synchronising."""
    low = any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in tensors)
    found = list(torch._foreach_norm(tensors, 2, torch.float32) if low else torch._foreach_norm(tensors, 2))
    try:
        return torch.stack(found)
    except RuntimeError:  # parameters on several devices
        device = found[0].device
        return torch.stack([norm.to(device) for norm in found])


class GradientsCollector(Collector):
    """Gradients as the optimizer used them: after unscaling and clipping."""

    name = "gradients"
    turn = 0  # the trajectory sums up what it has measured

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._steps: list[tuple[int, tuple[int, ...], torch.Tensor]] = []
        self.latest: torch.Tensor | None = None  # global norm of the latest update, 0-d, on the device

    def update_begins(self, optimizer: torch.optim.Optimizer | None, parameters: list[torch.Tensor]) -> None:
        owners, grads = dense_gradients(parameters)
        if not grads:
            return
        vector = norms(grads)
        self.latest = vector.square().sum().sqrt()
        self._steps.append((self.step, tuple(map(id, owners)), vector))

    def reached(self) -> set[int]:
        """ids of the parameters that ever had a gradient other than zero."""
        return {
            owner
            for _, owners, vector in self._steps
            for owner, norm in zip(owners, vector.tolist(), strict=True)
            if norm != 0
        }

    def graded(self) -> dict[int, int]:
        """id of a parameter -> updates at which its gradient was not zero."""
        counts: dict[int, int] = {}
        for _, owners, vector in self._steps:
            for owner, norm in zip(owners, vector.tolist(), strict=True):
                counts[owner] = counts.get(owner, 0) + (norm != 0)
        return counts

    def part(self) -> Gradients:
        if not self._steps:
            raise Unavailable("no gradient was seen at an update", "inconclusive")
        layers = self.probe.program.parameter_layers()
        steps = sorted({step for step, _, _ in self._steps})
        squares: dict[str, dict[int, float]] = {}
        kinds: dict[str, tuple[str, Any]] = {}
        for step, owners, vector in self._steps:
            for owner, norm in zip(owners, vector.tolist(), strict=True):
                name, layer = layers[owner][:2] if owner in layers else ("(other parameters)", None)
                kinds.setdefault(name, (type(layer).__name__ if layer is not None else "", layer))
                row = squares.setdefault(name, {})
                row[step] = row.get(step, 0.0) + norm * norm
        called = self.probe.calls.order
        order = {
            name: called.get(id(layer), len(called) + i) for i, (name, layer) in enumerate(self.probe.program.layers())
        }
        return Gradients(
            steps=tuple(steps),
            layers=tuple(
                LayerGradients(
                    name=name,
                    kind=kinds[name][0],
                    location=self.probe.program.location_of(kinds[name][1]),
                    norms=tuple(
                        _round(math.sqrt(squares[name][step])) if step in squares[name] else 0.0 for step in steps
                    ),
                )
                for name in sorted(squares, key=lambda name: order.get(name, len(called) + len(order)))
            ),
        )


def _round(value: float) -> float:
    """Four digits: what a heat map shows, at a third of the size."""
    return float(f"{value:.4g}")
