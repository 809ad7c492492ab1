"""The probe: hears what the taps report, keeps the collectors informed, lets the director act at each step's end."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from auditor.evidence import Location, RemedyKind
from auditor.probe.byhand import UpdatesByHand
from auditor.probe.clock import StepClock
from auditor.probe.collect import Collectors, LoopCall
from auditor.probe.contamination import Contamination
from auditor.probe.director import Director
from auditor.probe.elsewhere import Notice
from auditor.probe.feed import Feed
from auditor.probe.forward import ForwardCalls, gradients_wanted
from auditor.probe.graph import graph_leaves
from auditor.probe.guard import Diversion
from auditor.probe.hearing import Hearing
from auditor.probe.losscall import LossCall
from auditor.probe.lossfacts import LossFacts
from auditor.probe.program import LoaderSeen, ProgramSeen
from auditor.probe.questions import Questions, rate_of
from auditor.probe.randomness import RandomState
from auditor.probe.rewind import Snapshot
from auditor.probe.runfacts import describe_run
from auditor.probe.seeds import Seeds
from auditor.probe.steps import Steps
from auditor.spec import ProbeSpec, Sink

SETTLED = 2  # steps after which the roots of the models are known: other module calls are followed only in samples


class Probe(Hearing, Questions):
    """One per child process. All events come in on the thread that trains."""

    def __init__(self, spec: ProbeSpec, sink: Sink) -> None:
        self.spec = spec
        self.sink = sink
        self.program = ProgramSeen()
        self.calls = ForwardCalls(self)
        self.loop = Steps()
        self.seeds = Seeds()
        self.feed = Feed(self)
        self.director = Director(self)
        self.collectors = Collectors(self)
        self._metrics_wanted = self.collectors.hears("compared")
        self._loss_facts = LossFacts()
        self.initial: Snapshot | None = None
        self.forward_states: list[RandomState] = []  # at the first training forward of each observed step
        self.trained_roots: set[int] = set()  # ids of these models
        self.trained_modes: dict[int, bool] = {}  # step -> whether the model that it trained was in training mode
        self.boundary_states: list[RandomState] = []  # at the end of each observed step
        # (optimizer, group) -> its hyper-parameters at each observed step, 'params' left out
        self.recorded_groups: dict[tuple[int, int], list[dict[str, Any]]] = {}
        self.substituting = False  # recorded arguments and targets replace those of a loop without loader
        self.first_recorded = 0  # the recorded step that replays begin with
        self.updating = False  # inside optimizer.step(), whose closure may call the model
        self.fidelity: float | None = None  # of the rewind check
        self.is_target = False  # the loop is our own, for a file without one
        self.steps_taken = 0  # observed and replayed
        self.trouble = ""  # a failure of the audit itself
        self.dropout_off = False
        self.hears_metrics = False  # steps are observed, and comparisons outside of the model are of interest
        self.hears_dropout = False  # in an evaluation forward whose dropout calls are listened to
        self.own_seconds = 0.0
        self.paused_since: float | None = None
        self.step_clock = StepClock()
        self.notes: list[str] = []
        self.contaminated: dict[tuple[RemedyKind, str], Contamination] = {}  # by what would be left out of which loader
        self.diversion: Diversion | None = None  # None: the script's side effects are allowed
        self._pid = os.getpid()
        self._launched = "RANK" in os.environ  # before the script could set it: by torchrun, which started the audit
        self._notice = Notice(spec.run_dir)
        self._active = True
        self.program.changed = self.calls.forget_others
        self._by_hand = UpdatesByHand(self)

    # ---------------------------------------------------------------------------------------------------------- state

    def alive(self) -> bool:
        """False in forked workers, under torch.jit.trace (ops of ours would be traced), and while the probe itself
        calls into torch or the user's code."""
        return self._active and os.getpid() == self._pid and torch._C._get_tracing_state() is None

    def maybe_elsewhere(self) -> None:
        """Called where training happens that is not followed: it may be that of a forked process."""
        if os.getpid() != self._pid:
            self._notice()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Our own use of torch inside: the taps look away. Its time counts as ours.

        A failure of ours ends here: the user's script goes on, the report says so, and no experiment follows.
        """
        before, self._active = self._active, False
        began = time.perf_counter()
        if before:
            self.paused_since = began
        try:
            yield
        except Exception as bug:
            place = traceback.extract_tb(bug.__traceback__)[-1]
            self.trouble = f"{type(bug).__name__}: {bug} ({os.path.basename(place.filename)}:{place.lineno})"
            self.notes.append(f"The audit itself failed while it watched a step: {self.trouble}")
        finally:
            self._active = before
            if before:
                self.own_seconds += time.perf_counter() - began
                self.paused_since = None

    def class_weights(self) -> torch.Tensor | None:
        """(classes,), inverse to how often each was seen in training; None without class labels, or with one class."""
        collector = self.collectors.find("labels")
        return collector.weights() if collector is not None else None

    def manual(self) -> bool:
        """True when no torch optimizer is used: weights are updated by hand, or by a library's own optimizer."""
        return not self.program.optimizers or (self._by_hand.found and not self.loop.updates)

    # ------------------------------------------------------------------------------------------------- control points

    def before_fetch(self, seen: LoaderSeen) -> None:
        self._by_hand.look()
        if self.manual() and seen.training_credits:
            self._manual_boundary()

    def root_forward(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        if not gradients_wanted():
            self.feed.forward_without_gradient(module)
            if self.observing:
                self.hears_metrics = self._metrics_wanted
                with self.paused():
                    self.collectors.evaluation_forward(module, args, kwargs)
            return args, kwargs
        self._by_hand.look()
        if self.manual():
            self._manual_boundary()
        with self.paused():
            self.feed.forward_with_gradient(module)
            if self.loop.forwards == 0:
                self._first_forward()
            self.loop.forwards += 1
            self.loop.root = module
            args, kwargs = self.feed.arguments(id(module), args, kwargs)
            if self.observing:
                self.hears_metrics = self._metrics_wanted
                self.collectors.forward(module, args, kwargs)
            args, kwargs = self.director.player.change_inputs(args, kwargs)
            if not self.observing:
                self.director.player.examine(module, args, kwargs, first=self.loop.forwards == 1)
            if not self.observing:
                self.director.player.set_mode(module)
        return args, kwargs

    def companion_called(self, module: nn.Module) -> None:
        """An outermost call of a module that is not trained, for the first time."""
        if not self.recording or self.observed:
            return
        with self.paused():
            if self.program.is_companion(module):
                self.program.companions.append(module)
                if self.initial is not None:
                    self.initial.include([module])

    def root_forwarded(self, module: nn.Module, result: Any) -> None:
        if self.observing:
            with self.paused():
                if gradients_wanted():
                    self.collectors.forwarded(module, result)
                else:
                    self.collectors.evaluation_forwarded(module, result)
        else:
            self.director.player.reset_mode()

    def following_layers(self) -> bool:
        return self.observing and gradients_wanted() and self.collectors.follows_layers(self.position)

    def layer_forwarded(self, module: nn.Module, args: Any, result: Any) -> None:
        """A module inside a root's training forward has returned."""
        if gradients_wanted():
            with self.paused():
                self.collectors.layer_forwarded(module, args, result)

    def outside_forwarded(self, module: nn.Module, args: Any, result: Any) -> None:
        """A module has returned that was called outside of every root, as a frozen backbone in front of its head is."""
        if self.observing and gradients_wanted() and self.collectors.follows_layers(self.position):
            with self.paused():
                self.collectors.outside_forwarded(module, args, result)

    def function_applied(self, kind: Any, args: tuple[Any, ...]) -> None:
        """A custom autograd function is about to be applied, in an observed step."""
        with self.paused():
            self.collectors.function_applied(kind, args)

    def watching_operations(self) -> AbstractContextManager[Any]:
        if not gradients_wanted() or not self.observing:
            return nullcontext()
        return self.collectors.operation_watch() or nullcontext()

    def _first_forward(self) -> None:
        if self.observing:
            if self.observed == 0:
                self._starts()
            if self.recording and self.needs_noise(self.forward_states):
                self.forward_states.append(RandomState.capture())
        else:
            self.director.player.first_forward()

    def _starts(self) -> None:
        """Before the first step: start-up is over, and the weights are still what they were built with.

        Models may have been tried out before those that are trained were built: then it is done again."""
        seen = self.program
        if self.initial is None:
            self.director.first_step_begins()
        elif self.initial.covers(seen.trained_parameters()):
            return
        self.initial = None  # never two copies at once
        optimizers = [record.optimizer for record in seen.optimizers]
        models = [*(model for _, model in seen.models()), *seen.companions]
        self.initial = Snapshot(models, optimizers, seen.scalers, seen.trained_parameters())

    def say_last_words(self, finished: bool) -> None:
        """Facts about the whole run. `finished`: nothing is left to be done."""
        describe_run(self, finished)

    # --------------------------------------------------------------------------------------------------- loss, backward

    def before_loss(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        if not gradients_wanted():
            return args, kwargs
        inside = self.calls.inside_root > 0
        with self.paused():
            if len(args) > 1:
                args = (args[0], self._target(name, args[1], inside), *args[2:])
            elif "target" in kwargs:
                kwargs = {**kwargs, "target": self._target(name, kwargs["target"], inside)}
        return args, kwargs

    def _target(self, name: str, target: Any, in_model: bool) -> Any:
        return self.director.player.change_target(self.feed.target(name, target, in_model), in_model)

    def loss_called(self, call: LossCall) -> None:
        call.in_model = self.calls.inside_root > 0
        with self.paused():
            if not gradients_wanted():
                if self.observing:
                    self.collectors.evaluation_loss(call)
            elif self.observing:
                if not self.looking_on:
                    self._loss_facts.note(call, self.observed)
                self.collectors.loss_called(call)
            else:
                self.director.player.loss_called(call)

    def backward_begins(self, roots: tuple[torch.Tensor, ...], location: Location | None) -> None:
        with self.paused():
            self.feed.backward()
            if self.manual():
                self._manual_backward(roots)
            self.loop.backward(roots, location)
            if self.observing and not self.looking_on and self.loop.root is not None:
                self.trained_modes.setdefault(self.observed, self.loop.root.training)
                self.trained_roots.add(id(self.loop.root))
            if self.observing:
                self.collectors.backward_begins(roots)

    def run_backward(self, original: Callable[[], None], roots: tuple[torch.Tensor, ...]) -> None:
        self.director.player.run_backward(original, roots)

    def backward_ended(self) -> None:
        if not self.observing:
            return
        with self.paused():
            self.collectors.backward_ended()
            if self.manual():
                self.collectors.update_begins(None, self.program.trained_parameters())

    def loop_call(self, what: LoopCall, subject: Any) -> None:
        """One of the calls that order a step; see `LoopCall`."""
        if self.observing:
            with self.paused():
                self.collectors.loop_call(what, subject)

    # -------------------------------------------------------------------------------------------------------- updates

    def clip_begins(self, kind: str, parameters: Any, limit: float) -> bool:
        """Whether the call is to do nothing."""
        with self.paused():
            if not self.observing:
                return self.director.player.clip_begins(kind, float(limit))
            self.collectors.clip_begins(kind, parameters, float(limit))
        return False

    def clipped(self, kind: str, limit: float, result: Any, location: Location | None) -> None:
        if self.observing:
            with self.paused():
                self.collectors.clipped(kind, float(limit), result, location)

    def update_begins(self, optimizer: torch.optim.Optimizer, closure: bool, location: Location | None) -> None:
        seen = self.program.seen(optimizer)
        seen.closure = closure
        if seen.step_location is None:
            seen.step_location = location
        self.updating = True
        with self.paused():
            if self.observed == 0:
                self._starts()
            if self.observing and not self.looking_on:
                self._note_rates(optimizer)
            if self.observing:
                if not closure:
                    self.collectors.update_begins(optimizer, seen.parameters)
            else:
                self.director.player.update_begins(optimizer)

    def update_ended(self, optimizer: torch.optim.Optimizer) -> None:
        seen = self.program.seen(optimizer)
        seen.steps += 1
        self.updating = False
        with self.paused():
            if self.observing:
                self.feed.updated(optimizer)
                if seen.closure:
                    self.collectors.update_begins(optimizer, seen.parameters)
                self.collectors.update_ended(optimizer, seen.parameters)
            else:
                self.director.player.update_ended()
        if self.loop.update(optimizer):
            self._step_ended()

    def step_skipped(self, optimizer: Any) -> None:
        """A GradScaler found infinities and left the optimizer alone: still a step of the loop."""
        self.loop.current.skipped = True
        self._step_ended()

    def _note_rates(self, optimizer: torch.optim.Optimizer) -> None:
        if self.loop.current.learning_rate != self.loop.current.learning_rate:  # the step's first optimizer counts
            self.loop.current.learning_rate = rate_of(optimizer, 0)
        for index, group in enumerate(optimizer.param_groups):
            options = {key: value for key, value in group.items() if key != "params"}
            self.recorded_groups.setdefault((id(optimizer), index), []).append(options)

    def _manual_backward(self, roots: tuple[torch.Tensor, ...]) -> None:
        """Without module calls to mark them, a backward ends the step before it; the graph tells the parameters."""
        if self.loop.forwards == 0:
            if self.observed == 0:
                self.program.loose_parameters(graph_leaves(roots))
                self._starts()
            self._manual_boundary()

    def _manual_boundary(self) -> None:
        if self.loop.current.backwards:
            if self.observing:
                with self.paused():
                    self.collectors.update_ended(None, self.program.trained_parameters())
            self._step_ended()

    def _step_ended(self) -> None:
        if self.observing and not self.looking_on:
            self.step_clock.step_ended(self.own_seconds)
        with self.paused():
            step = self.loop.close()
            self.feed.step_ended()
            self.steps_taken += 1
            if self.observing:
                if self.recording and self.needs_noise(self.boundary_states):
                    self.boundary_states.append(RandomState.capture())
                self.collectors.step_ended(step)
                if not self.looking_on:
                    self._loss_facts.step_ended(step, self.observed)
            self.director.step_ended(step)
            self.program.step = self.position
        if self.trouble and not self.observing:
            self.director.give_up(f"the audit itself failed: {self.trouble}")
        with self.paused():
            self.calls.quiet = self.observed >= SETTLED and not self.director.watches_modules()
