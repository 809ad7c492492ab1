"""The user's own autograd functions, each with the inputs of its first calls, compared with central differences."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import torch

from auditor.evidence import CustomFunction, CustomFunctions, Location
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.gradcheck import Checked, check
from auditor.probe.locate import is_users, user_location

WATCHED = 3  # steps
MOST = 12  # functions
LARGEST = 2**18  # elements of all inputs of a call; of larger ones a few rows are kept
ROWS = 4


@dataclass
class _Applied:
    args: list[Any]
    needed: list[int]
    location: Location | None


class CustomFunctionsCollector(Collector):
    name = "custom_functions"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._applied: dict[Any, _Applied] = {}

    def function_applied(self, kind: Any, args: tuple[Any, ...]) -> None:
        if self.step >= WATCHED or kind in self._applied or len(self._applied) >= MOST:
            return
        if not torch.is_grad_enabled() or not _is_users_own(kind):
            return
        needed = [
            position
            for position, value in enumerate(args)
            if isinstance(value, torch.Tensor) and value.requires_grad and value.is_floating_point()
        ]
        if needed:
            self._applied[kind] = _Applied(_kept(args), needed, user_location())

    def applied(self, name: str) -> Any:
        """The function of that name, None where there is none."""
        return next((kind for kind in self._applied if kind.__name__ == name), None)

    def part(self) -> CustomFunctions:
        if not self._applied:
            raise Unavailable("no autograd function of the script's own was applied")
        return CustomFunctions(functions=tuple(self._describe(*each) for each in self._applied.items()))

    @staticmethod
    def _describe(kind: Any, applied: _Applied) -> CustomFunction:
        found: Checked = check(kind, applied.args, applied.needed)
        return CustomFunction(
            name=kind.__name__,
            verdict=found.verdict,
            input=found.input,
            missing=found.missing,
            error=found.error,
            ratio=found.ratio,
            directions=found.directions,
            dtype=found.dtype,
            reason=found.reason,
            location=applied.location,
        )


def _is_users_own(kind: Any) -> bool:
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return isinstance(file, str) and is_users(file)


def _kept(args: tuple[Any, ...]) -> list[Any]:
    """Copies of the tensors; the first rows of those that share the first dimension of the largest, where all of them
    together would be too much."""
    found = [value for value in args if isinstance(value, torch.Tensor)]
    rows = None
    if sum(tensor.numel() for tensor in found) > LARGEST:
        largest = max(found, key=lambda tensor: tensor.numel())
        rows = largest.shape[0] if largest.dim() > 1 else None

    def keep(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if rows is not None and value.dim() and value.shape[0] == rows:
            value = value[:ROWS]
        return value.detach().clone()

    return [keep(value) for value in args]
