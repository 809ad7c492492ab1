"""Layers that were built into a network after it had been trained, or been given weights: they begin at random."""

from __future__ import annotations

import math
import weakref
from typing import TYPE_CHECKING

from torch import nn

from auditor.probe.held import held

if TYPE_CHECKING:
    from auditor.probe.owners import Owners
    from auditor.probe.program import ProgramSeen

KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
FEWEST = 64  # weights whose distribution says anything
NEAR = 0.05  # relative error of the std and the largest of so many


class Times:
    """When modules were built, and weights loaded: the number of parameters that had been registered by then."""

    def __init__(self) -> None:
        self._built: dict[int, tuple[weakref.ref[nn.Module], int, int]] = {}  # clock, steps of training
        self._loads: list[tuple[weakref.ref[nn.Module], int]] = []

    def built(self, module: nn.Module, clock: int, step: int) -> None:
        if isinstance(module, KINDS):
            self._built[id(module)] = (weakref.ref(module), clock, step)

    def loaded(self, module: nn.Module, clock: int) -> None:
        self._loads.append((weakref.ref(module), clock))

    def built_at(self, module: nn.Module) -> tuple[int, int] | None:
        known = self._built.get(id(module))
        return known[1:] if known is not None and known[0]() is module else None

    def loads(self, module: nn.Module) -> list[int]:
        return [clock for reference, clock in self._loads if reference() is module]


def is_random_stand_in(program: ProgramSeen, known: Owners, layer: nn.Module) -> bool:
    """Built later than its network was trained, or given weights; given none since; and as torch has drawn it."""
    when = program.times.built_at(layer)
    if when is None or not _as_drawn(layer):
        return False
    clock, step = when
    around = [module for module, _ in known.path(layer)]
    loads = [loaded for module in around for loaded in program.times.loads(module)]
    if any(loaded > clock for loaded in loads):
        return False
    if loads:
        return True
    own = {id(parameter) for parameter in around[-1].parameters()}
    before = [record for record in program.stepped() if record.built_at <= clock]
    return step > 0 and any(id(parameter) in own for record in before for parameter in record.parameters)


def _as_drawn(layer: nn.Module) -> bool:
    """Torch draws the weights of these layers evenly, from -1 / sqrt(fan-in) to 1 / sqrt(fan-in)."""
    weight = held(layer, "weight")
    if type(layer) not in KINDS or weight is None or weight.numel() < FEWEST:
        return False
    bound = 1 / math.sqrt(weight[0].numel())
    std, largest = float(weight.detach().float().std()), float(weight.detach().abs().max())
    return (1 - NEAR) * bound < largest <= 1.0001 * bound and abs(std * math.sqrt(3) / bound - 1) < 2 * NEAR
