"""Collectors: each gathers one part of the evidence from what happens in the observed steps."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from auditor.evidence import Location, Part
from auditor.probe.losscall import LossCall
from auditor.probe.operations import OperationWatch
from auditor.probe.steps import StepSeen

if TYPE_CHECKING:
    from auditor.probe.dropouts import DropoutHeard
    from auditor.probe.probe import Probe
    from auditor.probe.program import LoaderSeen


# Calls that order a step: an optimizer or module clears gradients (reported before it does), a scheduler has stepped,
# a GradScaler has unscaled an optimizer's gradients. Further of a GradScaler: it has scaled, is about to step an
# optimizer, is done with that (whether it stepped or skipped), has updated its scale.
LoopCall = Literal["zero_grad", "scheduler_step", "unscale", "scale", "scaler_step", "scaler_stepped", "scaler_update"]


class Unavailable(Exception):
    """Raised by `Collector.part`: there is nothing to report, and why."""

    def __init__(self, reason: str, outcome: Literal["not-applicable", "inconclusive"] = "not-applicable") -> None:
        super().__init__(reason)
        self.outcome: Literal["not-applicable", "inconclusive"] = outcome


class Collector:
    """Base: every event does nothing. Tensors kept must be detached, small, and left on their device; they are
    fetched between steps, never inside one."""

    name = ""  # the field of the evidence that it fills
    turn = 5  # collectors hear of an event in this order: lower first, equal ones by name
    reads_data = False  # its part calls the user's dataset: nothing of the script that counts may follow
    looks_on = False  # it hears of the steps after the observed ones, too: what it gathers often comes late

    def __init__(self, probe: Probe) -> None:
        self.probe = probe

    @property
    def step(self) -> int:
        return self.probe.position

    def batch_fetched(self, seen: LoaderSeen, batch: Any) -> None: ...
    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None: ...
    def forwarded(self, module: nn.Module, result: Any) -> None: ...
    def evaluation_forward(self, module: nn.Module, args: Any, kwargs: Any) -> None: ...
    def evaluation_forwarded(self, module: nn.Module, result: Any) -> None: ...
    def evaluation_loss(self, call: LossCall) -> None: ...
    def loss_called(self, call: LossCall) -> None: ...
    def layer_forwarded(self, module: nn.Module, args: Any, result: Any) -> None: ...
    def outside_forwarded(self, module: nn.Module, args: Any, result: Any) -> None: ...
    def function_applied(self, kind: Any, args: tuple[Any, ...]) -> None: ...
    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None: ...
    def backward_ended(self) -> None: ...
    def loop_call(self, what: LoopCall, subject: Any) -> None: ...
    def clip_begins(self, kind: str, parameters: Any, limit: float) -> None: ...
    def clipped(self, kind: str, limit: float, result: Any, location: Location | None) -> None: ...
    def update_begins(self, optimizer: torch.optim.Optimizer | None, parameters: list[torch.Tensor]) -> None: ...
    def update_ended(self, optimizer: torch.optim.Optimizer | None, parameters: list[torch.Tensor]) -> None: ...
    def step_ended(self, step: StepSeen) -> None: ...
    def mode_switched(self, module: nn.Module, training: bool, location: Location | None) -> None: ...
    def dropout_called(self, heard: DropoutHeard) -> None: ...
    def compared(self, function: str, left: torch.Tensor, right: torch.Tensor, result: torch.Tensor) -> None: ...
    def subtracted(self, left: torch.Tensor, right: torch.Tensor, result: torch.Tensor) -> None: ...
    def combined(self, function: str, left: torch.Tensor, right: torch.Tensor, result: torch.Tensor) -> None: ...
    def took_largest(self, function: str, given: torch.Tensor, result: Any) -> None: ...
    def pass_started(self, seen: LoaderSeen) -> None: ...
    def weights_read(self, module: nn.Module) -> None: ...

    def watches(self, step: int) -> bool:
        """Whether this step's operations and layers are to be reported."""
        return sampled(step)

    def operation(self, name: str, output: torch.Tensor) -> None:
        """An operation of a watched forward returned `output`."""

    def part(self) -> Part:
        """Raises Unavailable."""
        raise NotImplementedError


EVENTS = (
    "batch_fetched",
    "forward",
    "forwarded",
    "evaluation_forward",
    "evaluation_forwarded",
    "evaluation_loss",
    "loss_called",
    "layer_forwarded",
    "outside_forwarded",
    "function_applied",
    "backward_begins",
    "backward_ended",
    "loop_call",
    "clip_begins",
    "clipped",
    "update_begins",
    "update_ended",
    "step_ended",
    "mode_switched",
    "dropout_called",
    "compared",
    "subtracted",
    "combined",
    "took_largest",
    "pass_started",
    "weights_read",
)


# Parts that others, the experiments and every report build on.
ALWAYS = frozenset({"program", "trajectory", "gradients", "nonfinite", "inputs"})

# What an experiment builds on besides: part of the experiment -> part of the collector.
BUILDS_ON = {
    "mode_effect": "modes",
    "input_use": "embedding_rows",
    "graph_cuts": "gradient_reach",
    "zero_starts": "symmetry",
    "token_influence": "token_labels",
    "scale_change": "scaler_use",
    "fed_from_memory": "data_wait",
    "reinitialized": "forward_scale",
    "calmed_recurrence": "forward_scale",
    "full_precision": "low_precision",
    "divided_accumulation": "accumulation",
    "standardized_targets": "targets",
    "label_control": "labels",
    "class_weighted": "labels",
    "order_control": "sample_order",
    "rate_ahead": "schedules",
}

# What remedies are worked out from.
FOR_TRIALS = frozenset({"inputs", "targets", "labels", "forward_scale", "ownership", "saturation", "custom_functions"})

# Of these, what can be worked out again and again.
EARLY = frozenset({"program", "trajectory", "gradients", "nonfinite"})


def sampled(step: int) -> bool:
    """Steps whose operations are watched: the first few, then every tenth. Dear statistics are taken there only."""
    return step < 3 or step % 10 == 9


class Collectors:
    """All collectors of the parts that are wanted; passes each event to those that override it."""

    def __init__(self, probe: Probe) -> None:
        from auditor.probe.parts import collectors

        self._probe = probe
        wanted = ALWAYS | {base for part, base in BUILDS_ON.items() if probe.spec.wants(part)}
        if probe.spec.trials:
            wanted |= FOR_TRIALS
        self.all = [kind(probe) for kind in collectors() if kind.name in wanted or probe.spec.wants(kind.name)]
        self._broken: dict[str, str] = {}
        self._address(self.all)

    def _address(self, audience: list[Collector]) -> None:
        """Whom the events are told from now on."""
        for event in EVENTS:
            listeners = [collector for collector in audience if event in _overridden(type(collector))]
            setattr(self, event, self._dispatch(event, listeners))
        self._watchers = [c for c in audience if "operation" in _overridden(type(c))]
        self._followers = [c for c in audience if "layer_forwarded" in _overridden(type(c))]

    def look_on(self) -> bool:
        """From now on only those are told that look on. False when there are none."""
        audience = [collector for collector in self.all if collector.looks_on]
        self._address(audience)
        return bool(audience)

    def hears(self, event: str) -> bool:
        """Whether any collector asks for it: what costs something to report is reported only then."""
        return any(event in _overridden(type(collector)) for collector in self.all)

    def find(self, name: str) -> Any:
        """The collector of a part; None when it is not wanted."""
        return next((collector for collector in self.all if collector.name == name), None)

    def watches(self, step: int) -> bool:
        return any(watcher.watches(step) for watcher in (*self._watchers, *self._followers))

    def follows_layers(self, step: int) -> bool:
        return any(follower.watches(step) for follower in self._followers)

    def operation_watch(self) -> AbstractContextManager[Any] | None:
        step = self._probe.position
        if not self._probe.observing or not any(watcher.watches(step) for watcher in self._watchers):
            return None
        return OperationWatch(self._report, self._probe)

    def _report(self, name: str, output: torch.Tensor) -> None:
        for watcher in self._watchers:
            self._tell(watcher, "operation", name, output)

    def _dispatch(self, event: str, listeners: list[Collector]) -> Any:
        def tell(*args: Any) -> None:
            for listener in listeners:
                self._tell(listener, event, *args)

        return tell

    def _tell(self, listener: Collector, event: str, *args: Any) -> None:
        """A collector that fails must not take the script down: its part says so, and it is told nothing more."""
        if listener.name in self._broken:
            return
        try:
            getattr(listener, event)(*args)
        except Exception as bug:
            self._broken[listener.name] = f"{type(bug).__name__}: {bug}"

    def emit_early(self) -> None:
        """Send the parts that cost little as they are so far: should the script die suddenly, they are known."""
        for collector in self.all:
            if collector.name in EARLY and collector.name not in self._broken:
                with contextlib.suppress(Exception):  # they are sent again at the end, which then says what is wrong
                    self._probe.sink.part(collector.name, collector.part())

    def emit(self, *, late: bool = False, on: bool = False) -> None:
        """Send every part, or why it is missing. `on`: the loop will be looked on, and what reads the
        user's data has to wait; `late`: it has been, only the collectors that did so tell once more."""
        for collector in self.all:
            if (late and not collector.looks_on) or (on and collector.reads_data):
                continue
            if collector.name in self._broken:
                reason = f"gathering it failed inside the audit: {self._broken[collector.name]}"
                self._probe.sink.absent(collector.name, "inconclusive", reason)
                continue
            try:
                self._probe.sink.part(collector.name, collector.part())
            except Unavailable as why:
                self._probe.sink.absent(collector.name, why.outcome, str(why))
            except Exception as bug:
                reason = f"gathering it failed inside the audit: {type(bug).__name__}: {bug}"
                self._probe.sink.absent(collector.name, "inconclusive", reason)

    # Filled in __init__; declared for type checkers.
    def batch_fetched(self, seen: LoaderSeen, batch: Any) -> None: ...
    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None: ...
    def forwarded(self, module: nn.Module, result: Any) -> None: ...
    def evaluation_forward(self, module: nn.Module, args: Any, kwargs: Any) -> None: ...
    def evaluation_forwarded(self, module: nn.Module, result: Any) -> None: ...
    def evaluation_loss(self, call: LossCall) -> None: ...
    def loss_called(self, call: LossCall) -> None: ...
    def layer_forwarded(self, module: nn.Module, args: Any, result: Any) -> None: ...
    def outside_forwarded(self, module: nn.Module, args: Any, result: Any) -> None: ...
    def function_applied(self, kind: Any, args: tuple[Any, ...]) -> None: ...
    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None: ...
    def backward_ended(self) -> None: ...
    def loop_call(self, what: LoopCall, subject: Any) -> None: ...
    def clip_begins(self, kind: str, parameters: Any, limit: float) -> None: ...
    def clipped(self, kind: str, limit: float, result: Any, location: Location | None) -> None: ...
    def update_begins(self, optimizer: torch.optim.Optimizer | None, parameters: list[torch.Tensor]) -> None: ...
    def update_ended(self, optimizer: torch.optim.Optimizer | None, parameters: list[torch.Tensor]) -> None: ...
    def step_ended(self, step: StepSeen) -> None: ...
    def mode_switched(self, module: nn.Module, training: bool, location: Location | None) -> None: ...
    def dropout_called(self, heard: DropoutHeard) -> None: ...
    def compared(self, function: str, left: torch.Tensor, right: torch.Tensor, result: torch.Tensor) -> None: ...
    def subtracted(self, left: torch.Tensor, right: torch.Tensor, result: torch.Tensor) -> None: ...
    def combined(self, function: str, left: torch.Tensor, right: torch.Tensor, result: torch.Tensor) -> None: ...
    def took_largest(self, function: str, given: torch.Tensor, result: Any) -> None: ...
    def pass_started(self, seen: LoaderSeen) -> None: ...
    def weights_read(self, module: nn.Module) -> None: ...


def _overridden(kind: type[Collector]) -> set[str]:
    return {name for cls in kind.__mro__ if cls not in (Collector, object) for name in vars(cls)}
