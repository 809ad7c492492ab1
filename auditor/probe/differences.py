"""Losses written by hand: differences and products of a prediction and something else, outside of every model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import overrides
from torch.overrides import TorchFunctionMode

from auditor.evidence import Location
from auditor.probe.locate import user_location
from auditor.probe.operations import short_name

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

SUBTRACTING = frozenset({"sub", "subtract", "__sub__", "__rsub__", "rsub"})
MULTIPLYING = frozenset({"mul", "multiply", "__mul__", "__rmul__"})
RESHAPING = frozenset({"unsqueeze", "view", "reshape", "__getitem__", "unflatten"})
MOST = 64  # of one step


@dataclass
class Difference:
    """`input` has a graph, `target` none. Both live: kept until the step's backward begins."""

    symbol: str
    input: torch.Tensor
    target: torch.Tensor
    node: Any
    reshaped: bool  # one of them was given its axes on purpose, right here
    location: Location | None


class DifferenceWatch(TorchFunctionMode):
    """Notes them for one whole step. Computes nothing: the step's own numbers stay as they are."""

    def __init__(self, probe: Probe) -> None:
        super().__init__()
        self._probe = probe
        self.found: list[Difference] = []
        self._reshaped: dict[int, torch.Tensor] = {}  # held, so that no other tensor gets the same id
        self._on = False

    def begin(self) -> None:
        """Not inside a mode of the script's own, which might end before ours."""
        if not self._on and not _modes():
            self.__enter__()  # type: ignore[no-untyped-call]
            self._on = True

    def end(self) -> bool:
        """False while a mode that the script has begun since is still on."""
        stack = _modes()
        if self._on and stack and stack[-1] is self:
            self.__exit__(None, None, None)
            self._on = False
        return not self._on

    def clear(self) -> None:
        self.found, self._reshaped = [], {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._probe.calls.inside_root or self._probe.updating or not self._probe.alive():
            return result
        name = short_name(func)
        if name in RESHAPING:
            added = isinstance(result, torch.Tensor) and isinstance(args[0], torch.Tensor)
            if added and result.dim() > args[0].dim() and len(self._reshaped) < MOST:
                self._reshaped[id(result)] = result
        elif (name in SUBTRACTING or name in MULTIPLYING) and len(self.found) < MOST:
            self._note(name, args, result)
        return result

    def _note(self, name: str, args: Any, result: Any) -> None:
        operands = args[:2]
        if len(operands) < 2 or not all(isinstance(each, torch.Tensor) and each.dim() for each in operands):
            return
        given, other = sorted(operands, key=lambda each: not each.requires_grad)
        if not given.requires_grad or other.requires_grad or getattr(result, "grad_fn", None) is None:
            return
        symbol = "-" if name in SUBTRACTING else "*"
        reshaped = id(given) in self._reshaped or id(other) in self._reshaped
        self.found.append(Difference(symbol, given, other, result.grad_fn, reshaped, user_location()))


def _modes() -> list[Any]:
    """The modes in force on this thread, the innermost last."""
    return overrides._get_current_function_mode_stack()  # type: ignore[no-untyped-call,no-any-return]
