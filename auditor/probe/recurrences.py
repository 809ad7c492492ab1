"""Modules that are called again and again within a step on what they returned themselves: does the graph go through?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from auditor.evidence import Location
from auditor.probe.batches import tensors
from auditor.probe.locate import user_location
from auditor.probe.steps import fetch

WATCHED = 3  # steps
MOST_MODULES = 200
MOST_CALLS = 1000


@dataclass
class _Calls:
    """Those of one module in one step."""

    module: nn.Module
    latest: list[torch.Tensor] = field(default_factory=list)  # what it returned, while that may be handed on
    made: list[Any] = field(default_factory=list)  # a node of each result
    kept: int = 0  # calls that were given an earlier result with its graph
    cut: int = 0  # the same without it
    location: Location | None = None  # of a call that was


@dataclass(frozen=True)
class Recurrence:
    module: nn.Module
    calls: int
    cut: int
    kept: int
    reached: int  # calls whose result got a gradient other than zero
    location: Location | None


class Recurrences:
    def __init__(self) -> None:
        self._calls: dict[int, _Calls] = {}
        self._waiting: list[tuple[_Calls, dict[int, torch.Tensor], list[Any]]] = []
        self.found: list[Recurrence] = []

    def called(self, module: nn.Module, args: Any, result: Any) -> None:
        """After the call, with gradients enabled."""
        known = self._calls.get(id(module))
        if known is None:
            if len(self._calls) >= MOST_MODULES:
                return
            known = self._calls[id(module)] = _Calls(module)
        own = [tensor for tensor in tensors(result) if tensor.grad_fn is not None]
        if known.latest:
            self._compare(known, list(tensors(args)))
        if not own or len(known.made) >= MOST_CALLS:
            known.latest = []
            return
        known.made.append(own[0].grad_fn)
        known.latest = [tensor.detach() for tensor in own]

    def _compare(self, known: _Calls, given: list[torch.Tensor]) -> None:
        returned = {(tensor.data_ptr(), tensor.shape) for tensor in known.latest}
        again = [tensor for tensor in given if (tensor.data_ptr(), tensor.shape) in returned]
        if any(tensor.requires_grad for tensor in again):
            known.kept += 1
        elif again:
            known.cut += 1
            known.location = known.location or user_location()

    def backward_begins(self) -> None:
        """From here on: which of the results get a gradient other than zero?"""
        for known in self._calls.values():
            if not known.cut:
                continue
            flags: dict[int, torch.Tensor] = {}
            handles = [node.register_prehook(_flagging(flags, place)) for place, node in enumerate(known.made)]
            self._waiting.append((known, flags, handles))
        self._calls = {}

    def backward_ended(self) -> None:
        for known, flags, handles in self._waiting:
            for handle in handles:
                handle.remove()
            reached = sum(fetch(list(flags.values())))
            self.found.append(
                Recurrence(known.module, len(known.made), known.cut, known.kept, int(reached), known.location)
            )
        self._waiting = []

    def forget(self) -> None:
        """The nodes keep the graph alive."""
        self._calls, self._waiting = {}, []


def _flagging(flags: dict[int, torch.Tensor], place: int) -> Callable[[tuple[Any, ...]], None]:
    def flag(gradients: tuple[Any, ...]) -> None:
        for gradient in gradients:
            if isinstance(gradient, torch.Tensor):
                found = (gradient.detach() != 0).any()
                flags[place] = flags[place] | found if place in flags else found

    return flag
