"""What a step of a loop without loader consumed, and which of it belongs to evaluations in between."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from auditor.probe import batches
from auditor.probe.locate import Site

USUAL = 0.7  # share of the steps that make the same calls


@dataclass
class ModelCall:
    module: int
    args: Any
    kwargs: Any
    site: Site = ()

    def place(self) -> Hashable:
        """The lines that it comes from."""
        return self.module, self.site

    def shapes(self) -> Hashable:
        """Of all that the model is given."""
        return (self.module, *(tuple(each.shape) for each in batches.tensors((self.args, self.kwargs))))


@dataclass
class StepData:
    """What one observed step of a loop without a loader consumed."""

    calls: list[ModelCall] = field(default_factory=list)
    targets: list[tuple[str, torch.Tensor]] = field(default_factory=list)
    rows: list[tuple[Site, torch.Tensor]] = field(default_factory=list)  # taken by an index: from which line, and which
    trimmed: bool = False  # of what did not belong to the step


@dataclass(frozen=True)
class Telling:
    """What tells the calls and targets of a step from those of an evaluation."""

    call: Callable[[ModelCall], Hashable]
    target: Callable[[tuple[str, torch.Tensor]], Hashable]


# By the lines that a call comes from; where one function serves both, by the shapes that it is given.
TELLINGS = (
    Telling(ModelCall.place, lambda target: target[0]),
    Telling(ModelCall.shapes, lambda target: (target[0], tuple(target[1].shape))),
)


def drop_evaluations(steps: Sequence[StepData]) -> Telling | None:
    """With gradients on, an evaluation between two steps looks like a part of the later one. Where nearly all steps
    make the same calls and a few make others besides, those are taken out. Returns what tells them apart, None when
    nothing was taken out."""
    return next((told for told in TELLINGS if len(steps) > 1 and _drop(steps, told)), None)


def _drop(steps: Sequence[StepData], told: Telling) -> bool:
    calls = _usual([tuple(told.call(call) for call in step.calls) for step in steps])
    targets = _usual([tuple(told.target(target) for target in step.targets) for step in steps])
    if not calls or targets is None:
        return False
    rest = []
    for step in steps:
        kept = [call for call in step.calls if told.call(call) in calls]
        known = [target for target in step.targets if told.target(target) in targets]
        if len(step.calls) > len(kept) == len(calls) and len(known) == len(targets):
            rest.append((step, kept, known))
    for step, kept, known in rest:
        step.calls, step.targets, step.trimmed = kept, known, True
    return bool(rest)


def _usual(forms: list[tuple[Hashable, ...]]) -> tuple[Hashable, ...] | None:
    """What nearly all steps have; None when there is no such thing. The first step may be an odd one."""
    found = max(set(forms[1:]), key=forms.count)
    return found if forms.count(found) >= USUAL * len(forms) else None
