"""Hidden states of recurrent layers: what range they have, whatever kernel computed them.

The graph names a fused kernel, or the last of many small operations; the layer tells what both of them compute.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from auditor.probe.graph import REARRANGING, kind_of

Bounds = tuple[float | None, float | None]

KINDS = (nn.RNNBase, nn.RNNCellBase)
UNIT: Bounds = (-1.0, 1.0)
ACCUMULATE = "torch::autograd::AccumulateGrad"
LONGEST = 12  # nodes that only rearrange what a layer returns


class HiddenStates:
    """Graph nodes of the step at hand whose result is the hidden state of a recurrent layer."""

    def __init__(self) -> None:
        self.bounds: dict[Any, Bounds] = {}
        self.kinds: dict[Any, str] = {}

    def heard(self, module: nn.Module, args: Any, result: Any) -> None:
        """A layer has returned."""
        if not isinstance(module, KINDS):
            return
        states = list(_hidden(module, result))
        limits = _range(module, args, states[0], self.bounds) if states else None  # of all steps, so of the last
        if limits is None:
            return
        for node in (node for state in states for node in _chain(state.grad_fn)):
            self.bounds[node] = limits
            self.kinds[node] = type(module).__name__.removesuffix("Cell")

    def clear(self) -> None:
        self.bounds, self.kinds = {}, {}


def _hidden(module: nn.Module, result: Any) -> Iterator[torch.Tensor]:
    """What the layer returns, without the cell state of an LSTM."""
    parts = result if isinstance(result, tuple) else (result,)
    lstm = isinstance(module, nn.LSTM | nn.LSTMCell)
    if isinstance(module, nn.RNNCellBase):
        parts = parts[:1]
    elif lstm and len(parts) > 1 and isinstance(parts[1], tuple):
        parts = (parts[0], parts[1][0])
    yield from (part for part in parts if isinstance(part, torch.Tensor) and part.grad_fn is not None)


def _chain(node: Any) -> Iterator[Any]:
    """The node, and those that it only rearranges, down to what computed the values."""
    for _ in range(LONGEST):
        yield node
        if kind_of(node) not in REARRANGING | {"Stack", "IndexSelect"} or not node.next_functions:
            return
        node = node.next_functions[0][0]
        if node is None:
            return


def _range(module: nn.Module, args: Any, state: torch.Tensor, known: dict[Any, Bounds]) -> Bounds | None:
    """None where nothing bounds it."""
    if getattr(module, "proj_size", 0):
        return None  # a linear layer comes behind it
    if isinstance(module, nn.RNN | nn.RNNCell):
        return UNIT if module.nonlinearity == "tanh" else (0.0, None)
    if isinstance(module, nn.LSTM | nn.LSTMCell):
        return UNIT  # a gate times a tanh
    # Of a GRU it lies between a tanh and the state before: as bounded as the one that it starts from.
    if isinstance(module, nn.GRUCell) and len(args) > 1 and isinstance(args[1], torch.Tensor):
        start = args[1].grad_fn
        return UNIT if (start is None and _within(args[1])) or known.get(start) == UNIT else None
    return UNIT if _starts_from_constants(list(_chain(state.grad_fn))[-1]) and _within(state) else None


def _within(values: torch.Tensor) -> bool:
    return bool(values.detach().abs().max() <= 1)


def _starts_from_constants(node: Any) -> bool:
    """No state with a graph was handed to the layer: neither to the fused kernel, nor, where the steps are operations
    of their own, to `(state - new) * gate + new` of the first one."""
    if kind_of(node).startswith(("CudnnRnn", "MiopenRnn")):
        given = [each for each, _ in node.next_functions if each is not None and each.name() != ACCUMULATE]
        return len(given) <= 1
    for wanted in ("Add", "Mul", "Sub"):
        if kind_of(node) != wanted or not node.next_functions:
            return False
        following = [each for each, _ in node.next_functions if each is not None]
        if wanted == "Sub":
            return [kind_of(each) for each in following] == ["Tanh"]
        node = following[0]
    return False
