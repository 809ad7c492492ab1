"""How large each layer's output is in the first training forward."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from auditor.evidence import ForwardScale, LayerScale
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.consumers import Consumers
from auditor.probe.graph import producing_node
from auditor.probe.held import held
from auditor.probe.owners import from_outside, owners
from auditor.probe.steps import fetch

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.LocalResponseNorm,
)
MOST_LAYERS = 400


class ForwardScaleCollector(Collector):
    name = "forward_scale"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self.modules: list[nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d] = []  # in the order of the layers of the part
        self.activations: list[str] = []
        self._stds: list[torch.Tensor] = []
        self._weights: list[torch.Tensor] = []
        self._fans: list[int] = []
        self._nodes: list[Any] = []
        self._input: torch.Tensor | None = None
        self._normalized = self._residual = False
        self._forwards = 0

    def watches(self, step: int) -> bool:
        return step == 0

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self.step == 0:
            self._forwards += 1
            if self._input is None:
                found = (t for t in tensors((args, kwargs)) if t.is_floating_point() and t.numel() > 1)
                first = next(found, None)
                self._input = first.detach().float().std() if first is not None else None

    def layer_forwarded(self, module: nn.Module, args: Any, result: Any) -> None:
        if self._forwards != 1 or self.step:
            return
        if isinstance(module, NORMS) or "norm" in type(module).__name__.lower():
            self._normalized = True
        if not isinstance(module, WEIGHTED) or not isinstance(result, torch.Tensor) or result.numel() < 2:
            return
        weight = held(module, "weight")
        if weight is None:
            self._normalized = True  # computed anew for every forward, mostly to hold its size
        elif len(self.modules) < MOST_LAYERS and all(module is not known for known in self.modules):
            self.modules.append(module)
            self._stds.append(result.detach().float().std())
            self._fans.append(weight[0].numel())
            self._weights.append(weight.detach().float().std())
            self._nodes.append(producing_node(result) if result.grad_fn is not None else None)

    def forwarded(self, module: nn.Module, result: Any) -> None:
        if self.step or self.activations or not self.modules:
            return
        roots = tuple(tensor for tensor in tensors(_plain(result)) if tensor.grad_fn is not None)
        graph = Consumers(roots)
        self.activations = [graph.activation(node) if node is not None else "" for node in self._nodes]
        self._residual = graph.has_sums_of_layers()
        self._nodes = []  # they keep the graph, and with it the memory, alive

    def part(self) -> ForwardScale:
        if not self.modules or len(self.activations) != len(self.modules):
            raise Unavailable("no linear or convolutional layer was called in the first training forward")
        known = owners(self.probe.program)
        names = self.probe.program.module_names()
        stds, weights = fetch(list(self._stds)), fetch(list(self._weights))
        return ForwardScale(
            layers=tuple(
                LayerScale(
                    name=names.get(id(module)) or known.name(module),
                    kind=type(module).__name__,
                    location=self.probe.program.location_of(module),
                    std=float(f"{std:.4g}"),
                    activation=activation,
                    fan_in=fan,
                    weight_std=float(f"{weight:.4g}"),
                    loaded=from_outside(self.probe.program, known.path(module)),
                )
                for module, std, weight, fan, activation in zip(
                    self.modules, stds, weights, self._fans, self.activations, strict=True
                )
            ),
            input_std=fetch([self._input])[0] if self._input is not None else 0.0,
            normalized=self._normalized,
            residual=self._residual,
        )


def _plain(result: Any) -> Any:
    """Outputs with attributes (ModelOutput, dataclasses) as something whose tensors can be found."""
    if hasattr(result, "__dict__") and not isinstance(result, torch.Tensor | dict):
        return list(vars(result).values())
    return result
