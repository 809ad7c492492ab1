"""Parameters as modules take them on: that something was exchanged, and which modules have shared one."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from auditor.evidence import Location
from auditor.probe.locate import user_location

MOST_TIES = 1000


@dataclass(frozen=True)
class Tie:
    """Two modules that were given the same parameter."""

    modules: tuple[weakref.ref[nn.Module], weakref.ref[nn.Module]]
    kinds: tuple[type[nn.Module], type[nn.Module]]
    location: Location | None

    def partner(self, module: nn.Module) -> tuple[nn.Module | None, type[nn.Module]] | None:
        """(the other one, None if it is gone; its class), for one of the two."""
        for mine, its, kind in (
            (self.modules[0], self.modules[1], self.kinds[1]),
            (self.modules[1], self.modules[0], self.kinds[0]),
        ):
            if mine() is module:
                return its(), kind
        return None


class Registrations:
    def __init__(self) -> None:
        self.count = 0  # parameters that modules have been given so far
        self._first: dict[int, tuple[weakref.ref[torch.Tensor], weakref.ref[nn.Module]]] = {}
        self._ties: list[Tie] = []

    def heard(self, module: nn.Module, parameter: Any) -> None:
        """`module` registers `parameter`, which may be None."""
        self.count += 1
        if not isinstance(parameter, torch.Tensor):
            return
        known = self._first.get(id(parameter))
        if known is None or known[0]() is not parameter:
            self._first[id(parameter)] = (weakref.ref(parameter), weakref.ref(module))
            return
        first = known[1]()
        if first is None or first is module or len(self._ties) >= MOST_TIES:
            return
        self._ties.append(Tie((known[1], weakref.ref(module)), (type(first), type(module)), user_location()))

    def ties(self, module: nn.Module) -> list[Tie]:
        """Those that the module has, or had, a part in."""
        return [tie for tie in self._ties if tie.partner(module) is not None]
