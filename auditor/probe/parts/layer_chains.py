"""Which layer feeds which: linear layers in a row without a nonlinearity, and biases that a batch norm takes away."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd

from auditor.evidence import BiasedNorm, LayerChains, LinearPair
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.graph import consumers, graph_leaves
from auditor.probe.graph import kind_of as kind
from auditor.probe.held import held

WATCHED = 2  # steps
LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
PLAIN = frozenset(layer.forward for layer in LINEAR)  # a subclass may compute more than the layer
REARRANGING = frozenset(
    {"View", "UnsafeView", "Reshape", "ReshapeAlias", "Squeeze", "Unsqueeze", "Permute", "Transpose", "T", "Clone",
     "Alias", "ToCopy"}
)  # fmt: skip
AVERAGING = frozenset({"AvgPool2D", "AvgPool3D", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D", "Mean"})  # linear as well
MOST_BETWEEN = 12


@dataclass
class _Call:
    """One call of a layer: the graph nodes of its input and output, and their numbers of elements."""

    module: Any
    source: Any
    result: Any
    taken: int
    given: int


@dataclass
class _Way:
    """From a layer back to the linear layer that alone feeds it."""

    before: _Call | None = None  # None: something else feeds it
    passed: list[Any] = field(default_factory=list)  # nodes from here to there
    dropout: bool = False
    averaged: bool = False  # by a pooling
    norm: bool = False  # by a batch norm with running statistics


class LayerChainsCollector(Collector):
    name = "layer_chains"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._root: tuple[Any, Any] | None = None
        self._calls: dict[Any, _Call] = {}  # by the node of the output
        self._norms: list[tuple[_BatchNorm, Any]] = []  # with the node of the input
        self._through: dict[Any, tuple[Any, bool]] = {}  # node of an output -> of the input; of a batch norm?
        self._linear: set[int] = set()
        self._batch_norms: set[int] = set()
        self._pairs: dict[tuple[int, int], LinearPair] = {}
        self._biased: dict[int, BiasedNorm] = {}
        self._whole = False
        self._branching: set[int] = set()  # first layers whose output was seen to go elsewhere too

    def watches(self, step: int) -> bool:
        return step < WATCHED

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._root = (module, args)

    def forwarded(self, module: nn.Module, result: Any) -> None:
        if self.step < WATCHED and self._root is not None and self._root[0] is module:
            self.layer_forwarded(module, self._root[1], result)
        self._root = None

    def layer_forwarded(self, module: nn.Module, args: Any, result: Any) -> None:
        if self.step >= WATCHED or not args or not isinstance(args[0], torch.Tensor):
            return
        if not isinstance(result, torch.Tensor):
            return
        source, made = args[0].grad_fn, result.grad_fn
        if type(module).forward in PLAIN:
            self._linear.add(id(module))
            if made is not None:
                self._calls[made] = _Call(module, source, made, args[0].numel(), result.numel())
        elif isinstance(module, _BatchNorm):
            if module.training or module.running_mean is None:
                self._batch_norms.add(id(module))
                self._norms.append((module, source))
            if made is not None and module.running_mean is not None:  # in evaluation, a scale and a shift
                self._through[made] = source, True
        elif isinstance(module, _DropoutNd) and made is not None and made is not source:
            self._through[made] = source, False

    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None:
        if self.step >= WATCHED or not self._calls:
            return
        chains = [(call, self._before(call)) for call in self._calls.values()]
        rows = [(way.before, call, way) for call, way in chains if way.before is not None]
        biased = [(self._calls[node], norm) for norm, node in self._norms if node in self._calls]
        self._whole = self._whole or self._is_whole(chains, roots)
        if rows or biased:
            uses = consumers(roots)
            for before, call, way in rows:
                self._judge(before, call, way, all(uses.get(node, 0) == 1 for node in way.passed))
            for call, norm in biased:
                if held(call.module, "bias") is not None and uses.get(call.result, 0) == 1:
                    self._note_bias(call.module, norm)
        self._forget()

    def step_ended(self, step: Any) -> None:
        self._forget()

    def _forget(self) -> None:
        """The nodes keep the graph alive."""
        self._calls, self._norms, self._through, self._root = {}, [], {}, None

    def _before(self, call: _Call) -> _Way:
        node, way = call.source, _Way()
        for _ in range(MOST_BETWEEN):
            if node is None:
                break
            way.passed.append(node)
            if node in self._calls:
                way.before = self._calls[node]
                break
            if node in self._through:
                node, norm = self._through[node]
                way.norm, way.dropout = way.norm or norm, way.dropout or not norm
            elif kind(node) in REARRANGING | AVERAGING and node.next_functions:
                way.averaged |= kind(node) in AVERAGING
                node = node.next_functions[0][0]
            else:
                break
        return way

    def _is_whole(self, chains: list[tuple[_Call, _Way]], roots: tuple[torch.Tensor, ...]) -> bool:
        """All weights that the loss depends on are those of layers that feed each other, one after the other."""
        fed = [way.before for _, way in chains if way.before is not None]
        entries = [call for call, way in chains if way.before is None]
        if len(chains) < 2 or len(entries) != 1 or entries[0].source is not None or len(set(map(id, fed))) < len(fed):
            return False
        own = {id(parameter) for call, _ in chains for parameter in call.module.parameters()}
        return all(id(leaf) in own for leaf in graph_leaves(roots))

    def _judge(self, before: _Call, call: _Call, way: _Way, alone: bool) -> None:
        first, second = before.module, call.module
        key = (id(first), id(second))
        if not alone:
            self._branching.add(id(first))
            self._pairs.pop(key, None)
            return
        if id(first) in self._branching or first is second or not _combine(first, second):
            return
        if before.given != call.taken and not way.averaged:
            return
        names = self.probe.program.module_names()
        self._pairs[key] = LinearPair(
            first=names.get(id(first), type(first).__name__),
            second=names.get(id(second), type(second).__name__),
            first_kind=type(first).__name__,
            second_kind=type(second).__name__,
            before=_widths(first)[0],
            inner=_widths(first)[1],
            after=_widths(second)[1],
            weights=sum(weight.numel() for weight in _weights(first, second)),
            needed=_needed(first, second, before, call) if not way.averaged else 0,
            dropout=way.dropout,
            averaged=way.averaged,
            norm=way.norm,
            location=self.probe.program.location_of(second),
        )

    def _note_bias(self, layer: Any, norm: nn.Module) -> None:
        bias = held(layer, "bias")
        if bias is None or not bias.requires_grad:
            return
        names = self.probe.program.module_names()
        self._biased[id(layer)] = BiasedNorm(
            layer=names.get(id(layer), type(layer).__name__),
            norm=names.get(id(norm), type(norm).__name__),
            bias=bias.numel(),
            location=self.probe.program.location_of(layer),
        )

    def part(self) -> LayerChains:
        if not self._linear:
            raise Unavailable("no linear or convolutional layer was called in the training forward")
        return LayerChains(
            linear=len(self._linear),
            norms=len(self._batch_norms),
            whole=self._whole,
            pairs=tuple(self._pairs.values()),
            biased=tuple(self._biased.values()),
        )


def _weights(*layers: nn.Module) -> list[torch.Tensor]:
    found = [held(layer, "weight") for layer in layers]
    return [weight for weight in found if weight is not None]


def _widths(layer: Any) -> tuple[int, int]:
    """Features or channels that go in and come out."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.in_channels, layer.out_channels


def _combine(first: Any, second: Any) -> bool:
    """Whether one layer could take the place of both: not where they are parts of a factorised convolution, and not
    where the first is not trained."""
    weights = _weights(first, second)
    if len(weights) < 2 or not all(weight.requires_grad for weight in weights):
        return False  # not trained, or computed from something else, as low-rank and normalised weights are
    for layer in (first, second):
        if isinstance(layer, _ConvNd) and layer.groups > 1:
            return False
    if isinstance(first, _ConvNd) and isinstance(second, _ConvNd):
        if isinstance(first, _ConvTransposeNd) or isinstance(second, _ConvTransposeNd):
            return False  # resampling on the way: no single layer does it
        sizes = [tuple(first.kernel_size), tuple(second.kernel_size)]
        one_way = [{axis for axis, size in enumerate(kernel) if size > 1} for kernel in sizes]
        return one_way[0] == one_way[1]
    return not isinstance(first, _ConvTransposeNd) and not isinstance(second, _ConvNd)


def _needed(first: Any, second: Any, before: _Call, call: _Call) -> int:
    """Elements of the weight of the one layer that computes the same."""
    entering, leaving = _widths(first)[0], _widths(second)[1]
    if isinstance(second, _ConvNd):
        spans = [[d * (k - 1) + 1 for d, k in zip(c.dilation, c.kernel_size, strict=True)] for c in (first, second)]
        kernel = [a + (b - 1) * stride for a, b, stride in zip(*spans, first.stride, strict=True)]
        return entering * leaving * int(prod(kernel))
    if isinstance(first, nn.Linear) and first.out_features == second.in_features:
        return entering * leaving
    # Flattened in between: all that enters counts, for each of the second layer's rows.
    return before.taken // max(1, call.taken // int(second.in_features)) * leaving
