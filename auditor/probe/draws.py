"""Which operations of a forward draw random numbers, told from the state of the generators before and after each."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.overrides import TorchFunctionMode

from auditor.evidence import Location, RandomDraw
from auditor.probe.dropouts import ATTENTION, calling_module, training_given
from auditor.probe.locate import user_location
from auditor.probe.maskdraws import DrawnMasks
from auditor.probe.operations import short_name
from auditor.probe.randomness import RandomState

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

MOST_DRAWS = 16
DROPOUTS = frozenset(
    {"dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"}
)


@dataclass
class Draw:
    operation: str
    module: torch.nn.Module | None
    location: Location | None


class DrawWatch(TorchFunctionMode):
    """Notes every operation that leaves a generator in another state. It compares states each time."""

    def __init__(self, probe: Probe) -> None:
        super().__init__()
        self._probe = probe
        self._state: RandomState | None = None
        self.draws: list[Draw] = []
        self.masks = DrawnMasks()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self._state if self._state is not None else RandomState.capture()
        name = short_name(func)
        between = RandomState.capture()
        if self._state is not None and before.differs(between):
            self._note("a draw outside of torch")  # random or numpy, since the last operation
        result = func(*args, **(kwargs or {}))
        after = RandomState.capture()
        drew = self._note(name) if between.differs(after) and "seed" not in name else None
        self.masks.note(name, args, result, drew)
        self._state = after
        return result

    def _note(self, name: str) -> Draw:
        draw = Draw(name, calling_module(sys._getframe(2)), user_location())
        known = next((each for each in self.draws if (each.operation, each.location) == (name, draw.location)), None)
        if known is None and len(self.draws) < MOST_DRAWS:
            self.draws.append(draw)
        return known or draw


def describe(draw: Draw, probe: Probe, masks: DrawnMasks) -> RandomDraw:
    written = masks.is_dropout(draw)
    dropout = written or draw.operation in DROPOUTS or draw.operation == ATTENTION
    given: Literal["", "default", "literal", "expression", "rate", "module", "mask"] = ""
    owner = draw.module
    if written:
        given = "mask"
    elif draw.operation == ATTENTION:
        given = "rate"
    elif dropout and owner is not None and type(owner).__module__.startswith("torch.nn"):
        given = "module"
    elif dropout and draw.location is not None:
        given = training_given(draw.location.file, draw.location.line)  # type: ignore[assignment]
    names = probe.program.module_names()
    return RandomDraw(
        operation=draw.operation,
        module=names.get(id(owner), type(owner).__name__) if owner is not None else "",
        dropout=dropout,
        given=given,
        location=draw.location,
    )
