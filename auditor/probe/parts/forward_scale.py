"""How large each layer's output is in the first training forward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from auditor.evidence import ForwardScale, LayerScale, RecurrentScale
from auditor.probe import recurrent
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
        self.recurrent: list[nn.Module] = []
        self.entering: list[recurrent.Entering | None] = []  # of each recurrent layer
        self._gains: list[tuple[torch.Tensor, torch.Tensor | None]] = []  # of each: gain, share of flat gates
        self._stds: list[torch.Tensor] = []
        self._signals: list[torch.Tensor] = []
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
        if isinstance(module, recurrent.KINDS) and all(module is not known for known in self.recurrent):
            size = recurrent.gain(module)
            if size is not None and len(self.recurrent) < MOST_LAYERS:
                self.recurrent.append(module)
                self._gains.append((size, recurrent.flat_share(module, args, result)))
                self.entering.append(recurrent.entering(module, args))
        if not isinstance(module, WEIGHTED) or not isinstance(result, torch.Tensor) or result.numel() < 2:
            return
        weight = held(module, "weight")
        if weight is None:
            self._normalized = True  # computed anew for every forward, mostly to hold its size
        elif len(self.modules) < MOST_LAYERS and all(module is not known for known in self.modules):
            self.modules.append(module)
            self._stds.append(result.detach().float().std())
            self._signals.append(_spread(module, result.detach().float()))
            self._fans.append(weight[0].numel())
            self._weights.append(weight.detach().float().std())
            self._nodes.append(producing_node(result) if result.grad_fn is not None else None)

    def forwarded(self, module: nn.Module, result: Any) -> None:
        if self.step or self.activations or not self.modules:
            return
        roots = tuple(tensor for tensor in tensors(_plain(result)) if tensor.grad_fn is not None)
        graph = Consumers(roots)
        self.activations = [graph.activation(node) if node is not None else "" for node in self._nodes]
        self._residual = graph.has_branches()
        self._nodes = []  # they keep the graph, and with it the memory, alive

    def part(self) -> ForwardScale:
        if not self.recurrent and (not self.modules or len(self.activations) != len(self.modules)):
            raise Unavailable("no linear or convolutional layer was called in the first training forward")
        known = owners(self.probe.program)
        names = self.probe.program.module_names()
        stds, weights, signals = (fetch(list(each)) for each in (self._stds, self._weights, self._signals))
        return ForwardScale(
            layers=tuple(
                LayerScale(
                    name=names.get(id(module)) or known.name(module),
                    kind=type(module).__name__,
                    location=self.probe.program.location_of(module),
                    std=float(f"{std:.4g}"),
                    signal=float(f"{signal:.4g}"),
                    activation=activation,
                    fan_in=fan,
                    weight_std=float(f"{weight:.4g}"),
                    loaded=from_outside(self.probe.program, known.path(module)),
                )
                for module, std, signal, weight, fan, activation in zip(
                    self.modules,
                    stds,
                    signals,
                    weights,
                    self._fans,
                    self.activations or [""] * len(self.modules),
                    strict=True,
                )
            ),
            recurrent=tuple(self._recurrent(known, names)),
            input_std=fetch([self._input])[0] if self._input is not None else 0.0,
            normalized=self._normalized,
            residual=self._residual,
        )

    def _recurrent(self, known: Any, names: dict[int, str]) -> Iterator[RecurrentScale]:
        for module, (size, flat), given in zip(self.recurrent, self._gains, self.entering, strict=True):
            yield RecurrentScale(
                name=names.get(id(module)) or known.name(module),
                kind=type(module).__name__,
                location=self.probe.program.location_of(module),
                gain=float(f"{fetch([size])[0]:.4g}"),
                flat=float(f"{fetch([flat])[0]:.4g}") if flat is not None else None,
                flat_standardized=float(f"{fetch([given.flat])[0]:.4g}") if given is not None else None,
                loaded=from_outside(self.probe.program, known.path(module)),
            )


def _spread(module: nn.Module, result: torch.Tensor) -> torch.Tensor:
    """0-d: root mean square over the units of their std over samples and positions. What the biases of the units add
    is no signal: it is the same for every sample."""
    values = result if isinstance(module, nn.Linear) else result.movedim(-len(module.kernel_size) - 1, -1)  # type: ignore[arg-type]
    values = values.reshape(-1, values.shape[-1])
    return values.var(0).mean().sqrt() if values.shape[0] > 1 else values.std()


def _plain(result: Any) -> Any:
    """Outputs with attributes (ModelOutput, dataclasses) as something whose tensors can be found."""
    if hasattr(result, "__dict__") and not isinstance(result, torch.Tensor | dict):
        return list(vars(result).values())
    return result
