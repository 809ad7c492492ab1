"""The one shape of every experiment: rewind, intervene, let the user's own loop take n steps, read the trajectory.

An experiment is a generator: it yields `Replay` requests and receives a `Trail` for each; what it returns is its part
of the evidence. The director runs the loop; experiments never touch torch's entry points themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from auditor.evidence import Part
from auditor.probe.callchange import CallChange
from auditor.probe.examination import Examination
from auditor.probe.losscall import LossCall
from auditor.probe.operations import FiniteCheck

InputChange = Callable[[torch.Tensor], torch.Tensor]
Experiment = Generator["Replay", "Trail", Part]


class NotRun(Exception):
    """Raised by an experiment that cannot answer. `outcome` as in evidence.Absence."""

    def __init__(self, reason: str, outcome: Literal["not-applicable", "inconclusive"] = "inconclusive") -> None:
        super().__init__(reason)
        self.outcome: Literal["not-applicable", "inconclusive"] = outcome


class LoopOver(NotRun):
    """The script's loop ended before the steps that were needed: a further start of the script may have them."""


@dataclass
class Replay:
    """A request: steps of the user's loop from the rewound state."""

    steps: int
    label: str
    fewest: int = 1  # with less time than for this many steps it is not started
    order: Callable[[int], int] = lambda step: step  # which recorded batch feeds which step
    samples: int | None = None  # tile the first rows of the batch
    pinned: bool = False  # one and the same batch, also for the micro-batches of a step
    rate: Callable[[int], float] = lambda step: 1.0  # factor on the learning rate in force
    peak_rate: bool = False  # the factor applies to the reference rate instead of the recorded schedule
    dropout: bool = True
    weight_decay: bool = True
    penalty: bool = True  # terms of the loss that depend on the weights alone give a gradient
    auxiliary: bool = True  # terms of the loss beside torch's loss functions give a gradient
    input_change: InputChange | None = None  # every tensor that a root module is called with
    changed_layer: torch.nn.Module | None = None  # input_change is for what this layer receives instead
    call_change: Callable[[Any, Any], tuple[Any, Any]] | None = None  # args, kwargs of a root module's call as a whole
    target_change: InputChange | None = None  # the target of every loss function called outside the model
    batch_change: Callable[[Any, int], Any] | None = (
        None  # what the training loader hands out, for the step; its size may change
    )
    prepare: Callable[[], None] | None = None  # right after the rewind: other weights, for example
    undo: Callable[[], None] | None = None  # when the replay is over: what a rewind does not put back
    examine: Callable[[Examination, int], None] | None = None  # at the first training forward of each step (its number)
    measure: Callable[[LossCall], torch.Tensor | None] | None = (
        None  # a figure (0-d) of a loss call, of the last a step
    )
    read: Callable[[], torch.Tensor | None] | None = None  # a figure (0-d) of the step that ended, instead of `measure`
    examine_each: bool = False  # at every training forward of a step: an encoder's and a decoder's
    hear_loss: Callable[[LossCall, int], None] | None = None  # every call of a loss function, with the step's number
    at_update: Callable[[int, list[torch.Tensor]], None] | None = None  # parameters, before the optimizer reads .grad
    calls: CallChange | None = None  # calls of torch's functions that do something else
    instead_of_clipping: Callable[[float], None] | None = (
        None  # gets the limit of each clip_grad_norm_, which does nothing
    )
    zero_gradients: bool = False  # zeroed once an update, before its first backward; the script's own calls do nothing
    mode: Callable[[int], bool] | None = None  # of all modules in training forwards but frozen ones: training or not
    loss_scale: float = 1.0  # backward() runs on so many times the loss; its gradients are divided again right after
    after_backward: Callable[[int, list[torch.Tensor]], None] | None = None  # parameters, their .grad still scaled
    seed: int | None = None  # None: the random numbers of the recorded step
    stop: Callable[[list[float]], bool] | None = None
    check_operations: bool = False  # look for the first non-finite result, operation by operation


@dataclass
class Trail:
    """What came of a replay."""

    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)  # of class labels, NaN where there are none
    balanced: list[float] = field(default_factory=list)  # the same, every class counting as much as the others
    data_losses: list[float] = field(default_factory=list)  # sum of what torch's loss functions gave, NaN without any
    measured: list[float] = field(default_factory=list)  # what `measure` gave, NaN where it gave nothing
    spreads: list[float] = field(default_factory=list)  # of the outputs between samples, relative
    rates: list[float] = field(default_factory=list)
    ended: Literal["completed", "stopped", "time", "script-ended", "not-started"] = "completed"
    fewest: int = 1  # steps that the request cannot do without
    asked: int = 0
    check: FiniteCheck | None = None
    penalties: list[int] = field(default_factory=list)  # such terms that were switched off, per backward
    summed: float = 0.0  # see lossgraph.summed_beside_mean, where the terms beside the loss function are off
    clip_limits: list[float] = field(default_factory=list)  # of every call of a clipping function
    trouble: str = ""  # what the model raised while it was examined

    @property
    def usable(self) -> bool:
        return bool(self.losses) and self.ended in ("completed", "stopped")

    def require(self, fewest: int) -> None:
        """Raises NotRun when the replay is too short to judge."""
        if len(self.losses) >= fewest or self.ended in ("completed", "stopped"):
            return
        needed = f"{self.fewest} steps" if self.fewest > 1 else "step"
        if self.ended in ("time", "not-started"):
            raise NotRun(f"no time was left for the {needed} that this needs; allow more with --max-time")
        raise LoopOver(f"the script's loop ended before the {needed} that this needs")
