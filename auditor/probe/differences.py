"""Losses written by hand: differences and products of a prediction and something else, outside of every model; or, in a
model that returns its own loss, differences from what it was called with."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from auditor.evidence import Location
from auditor.probe.locate import user_location
from auditor.probe.slots import inherit, put

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

SUBTRACTING = ("__sub__", "sub", "subtract")
MULTIPLYING = ("__mul__", "mul", "multiply")
RESHAPING = ("unsqueeze", "view", "reshape", "__getitem__", "unflatten")
MOST = 64  # of one step
INHERITED = object()


@dataclass
class Difference:
    """`input` has a graph, `target` none. Both live: kept until the step's backward begins."""

    symbol: str
    input: torch.Tensor
    target: torch.Tensor
    node: Any
    reshaped: bool  # one of them was given its axes on purpose, right here
    location: Location | None


class DifferenceWatch:
    """Notes them up to the first backward of a step. Computes nothing: the step's own numbers stay as they are.

    By methods of the tensor that are replaced meanwhile, and not by a mode: under one, torch calls its functions by
    their names a second time, and what a script has put there would run twice.
    """

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self.found: list[Difference] = []
        self._reshaped: dict[int, torch.Tensor] = {}  # held, so that no other tensor gets the same id
        self._given: list[torch.Tensor] = []  # what the model at hand was called with, in a watched step
        self._replaced: list[tuple[Any, str, Any, Any]] = []  # owner, name, what was there, ours
        self._thread = 0

    def begin(self) -> None:
        if self._replaced:
            return
        self._thread = threading.get_ident()
        for names, heard in ((SUBTRACTING, self._subtracted), (MULTIPLYING, self._multiplied), (RESHAPING, self._axes)):
            for name in names:
                self._replace(torch.Tensor, name, heard)
                if hasattr(torch, name):
                    self._replace(torch, name, heard)

    def end(self) -> None:
        for owner, name, before, ours in self._replaced:
            if vars(owner).get(name) is not ours:
                continue  # the script has put its own on top: ours only passes on from now
            if before is INHERITED:
                inherit(owner, name)
            else:
                put(owner, name, before)
        self._replaced = []

    def clear(self) -> None:
        self.found, self._reshaped, self._given = [], {}, []

    def given(self, tensors: Iterable[torch.Tensor]) -> None:
        """A model is called: it may work out the loss itself, from labels that are among these."""
        if self._replaced:
            self._given = list(tensors)[:MOST]

    def _replace(self, owner: Any, name: str, heard: Callable[[Any, Any], None]) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def ours(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if self._replaced and self._listens() and isinstance(result, torch.Tensor):
                heard(args, result)
            return result

        self._replaced.append((owner, name, vars(owner).get(name, INHERITED), ours))
        put(owner, name, ours)

    def _listens(self) -> bool:
        return not self._probe.updating and threading.get_ident() == self._thread and self._probe.alive()

    def _axes(self, args: Any, result: torch.Tensor) -> None:
        added = bool(args) and isinstance(args[0], torch.Tensor) and result.dim() > args[0].dim()
        # Inside a model only what its own argument becomes is of interest; it reshapes too much else.
        inside = self._probe.calls.inside_root and not (added and self._was_given(args[0]))
        if added and not inside and len(self._reshaped) < MOST:
            self._reshaped[id(result)] = result

    def _subtracted(self, args: Any, result: torch.Tensor) -> None:
        self._note("-", args, result)

    def _multiplied(self, args: Any, result: torch.Tensor) -> None:
        self._note("*", args, result)

    def _was_given(self, tensor: torch.Tensor) -> bool:
        """It is, or is a view of, an argument of the model."""
        owner = tensor if tensor._base is None else tensor._base
        return any(owner is (each if each._base is None else each._base) for each in self._given)

    def _note(self, symbol: str, args: Any, result: torch.Tensor) -> None:
        operands = args[:2]
        if len(operands) < 2 or len(self.found) >= MOST:
            return
        if not all(isinstance(each, torch.Tensor) and each.dim() for each in operands):
            return
        given, other = sorted(operands, key=lambda each: not each.requires_grad)
        if not given.requires_grad or other.requires_grad or result.grad_fn is None:
            return
        if self._probe.calls.inside_root and not (symbol == "-" and self._was_given(other)):
            return  # inside a model, only the labels that it was called with make a difference a loss
        if any(seen.node is result.grad_fn for seen in self.found):
            return  # under a mode of the script's own, torch calls the method a second time by its name
        reshaped = id(given) in self._reshaped or id(other) in self._reshaped
        self.found.append(Difference(symbol, given, other, result.grad_fn, reshaped, user_location()))
