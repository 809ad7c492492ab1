"""Which modules ran in which mode: every training and evaluation forward of the observed steps, told apart afterwards.

Whether a forward trained is known by what came of it: a hook on the graph node of its output hears a backward that
passes through. Whether it evaluated is known by where its batch came from, and by what was computed from its output.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from auditor.evidence import DropoutCall, Location, ModelModes, Modes, ModuleMode
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, Unavailable, sampled
from auditor.probe.dropouts import DropoutHeard, is_users_dropout
from auditor.probe.heldlosses import HeldLosses
from auditor.probe.locate import user_location
from auditor.probe.losscall import LossCall
from auditor.probe.modal import frozen, modal_modules, role
from auditor.probe.program import LoaderSeen

MOST_FORWARDS = 20_000
MOST_MODULES = 64  # described of one model
MOST_OUTPUTS = 4  # of one forward, whose graph nodes get a hook
LISTENED = 20  # evaluation forwards of one model whose dropout calls are heard
MONTE_CARLO = 3  # passes over one input that are no accident


@dataclass
class _Switch:
    training: bool
    location: Location | None
    covers: frozenset[int]  # ids of the modules that it set


@dataclass(slots=True)
class _Forward:
    """One forward of a trained model."""

    step: int
    training: bool  # the model's own flag
    flags: tuple[bool, ...]  # of its modal modules
    grad: bool
    fed: LoaderSeen | None  # the loader that handed out the latest batch
    fetch: int
    first: bool  # the model's first forward since that batch
    switch: int  # number of switches before it
    rows: int
    familiar: bool = False  # its input is that of a training forward
    again: bool = False  # its input is that of the forward before it
    backward: bool = False
    graph: bool = False
    measured: bool = False
    loss: torch.Tensor | None = None  # 0-d, computed with a graph, as long as no backward passed
    location: Location | None = None


@dataclass
class _Model:
    module: nn.Module
    modal: list[nn.Module]
    forwards: list[_Forward] = field(default_factory=list)
    latest: list[weakref.ref[torch.Tensor]] = field(default_factory=list)  # input of the latest forward
    trained_on: list[weakref.ref[torch.Tensor]] = field(default_factory=list)  # of the latest with gradients
    trained_rows: int = 0
    trained_fetch: int = -1
    listened: int = 0


class ModesCollector(Collector):
    name = "modes"
    looks_on = True

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._models: dict[int, _Model] = {}
        self._switches: list[_Switch] = []
        self._fed: LoaderSeen | None = None
        self._fetch = 0
        self._latest: _Forward | None = None
        self._located: set[tuple[Any, ...]] = set()
        self._count = 0
        self._dropouts: dict[tuple[str, Location | None], DropoutHeard] = {}
        self.held = HeldLosses()

    # ---------------------------------------------------------------------------------------------------------- events

    def batch_fetched(self, seen: LoaderSeen, batch: Any) -> None:
        self._fed = seen
        self._fetch += 1

    def mode_switched(self, module: nn.Module, training: bool, location: Location | None) -> None:
        if len(self._switches) < MOST_FORWARDS:
            covers = frozenset(id(each) for each in module.modules())
            self._switches.append(_Switch(training, location, covers))

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._begin(module, args, kwargs, grad=True)

    def evaluation_forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._begin(module, args, kwargs, grad=False)
        self.held.forward(module, args, kwargs)

    def forwarded(self, module: nn.Module, result: Any) -> None:
        self.probe.hears_dropout = False
        model, forward = self._models.get(id(module)), self._latest
        if model is None or forward is None or not model.forwards or model.forwards[-1] is not forward:
            return

        def passed(_gradients: Any) -> None:
            forward.backward, forward.loss = True, None

        for tensor in list(tensors(result))[: 4 * MOST_OUTPUTS]:
            if tensor.grad_fn is None:
                continue
            forward.graph = True
            try:
                tensor.grad_fn.register_prehook(passed)
            except Exception:  # tensors of function transforms: taken for training
                forward.backward = True

    def evaluation_forwarded(self, module: nn.Module, result: Any) -> None:
        self.probe.hears_dropout = False
        self.held.forwarded(module, result)

    def evaluation_loss(self, call: LossCall) -> None:
        self._measured()
        self.held.loss(call)

    def loss_called(self, call: LossCall) -> None:
        self._measured()
        if self._latest is not None and self._latest.graph and call.result.dim() == 0:
            self._latest.loss = call.result.detach()

    def compared(self, function: str, left: torch.Tensor, right: torch.Tensor, result: torch.Tensor) -> None:
        self._measured()

    def _measured(self) -> None:
        if self._latest is not None:
            self._latest.measured = True

    def dropout_called(self, heard: DropoutHeard) -> None:
        if not is_users_dropout(heard, [model.module for model in self._models.values()]):
            return
        known = self._dropouts.setdefault((heard.function, heard.location), heard)
        known.calls += 1
        known.active_calls += heard.active

    def _begin(self, module: nn.Module, args: Any, kwargs: Any, grad: bool) -> None:
        if self._count >= MOST_FORWARDS:
            self._latest = None
            return
        self._count += 1
        model = self._models.get(id(module))
        if model is None:
            model = self._models[id(module)] = _Model(module, modal_modules(module))
        elif sampled(self.step) and model.forwards[-1].step != self.step:
            model.modal = _grown(model.modal, module)
        given = [tensor if tensor._base is None else tensor._base for tensor in list(tensors((args, kwargs)))[:8]]
        rows = next((tensor.shape[0] for tensor in tensors((args, kwargs)) if tensor.dim()), 0)
        last = model.forwards[-1] if model.forwards else None
        forward = _Forward(
            step=self.step,
            training=module.training,
            flags=tuple(each.training for each in model.modal),
            grad=grad,
            fed=self._fed,
            fetch=self._fetch,
            first=last is None or last.fetch != self._fetch,
            switch=len(self._switches),
            rows=rows,
            familiar=_same(given, model.trained_on)
            or (self._fetch > 0 and model.trained_fetch == self._fetch and model.trained_rows == rows),
            again=_same(given, model.latest),
        )
        key = (id(module), grad, module.training, id(self._fed))
        if key not in self._located:
            self._located.add(key)
            forward.location = user_location()
        model.latest = [weakref.ref(tensor) for tensor in given]
        if grad:
            model.trained_on, model.trained_rows, model.trained_fetch = model.latest, rows, self._fetch
        model.forwards.append(forward)
        self._latest = forward
        if not module.training and model.listened < LISTENED:
            model.listened += 1
            self.probe.hears_dropout = True

    # ------------------------------------------------------------------------------------------------------------ part

    def suspicious(self) -> bool:
        """Whether some model with modal modules is in a mode that does not fit: worth an experiment."""
        try:
            models = self.part().models
        except Unavailable:
            return False
        return any(model.modules and (model.train_mode_evaluations or model.forgotten) for model in models)

    def part(self) -> Modes:
        if not any(model.forwards for model in self._models.values()):
            raise Unavailable("no forward went through a call of a trained model")
        names = self.probe.program.module_names()
        models = [self._describe(model, names) for model in self._models.values()]
        return Modes(
            steps=self.probe.position,
            models=tuple(model for model in models if model.training_forwards or model.evaluation_forwards),
            dropout_calls=tuple(
                DropoutCall(
                    function=heard.function,
                    module=names.get(id(heard.owner), type(heard.owner).__name__ if heard.owner is not None else ""),
                    kind=type(heard.owner).__name__ if heard.owner is not None else "",
                    p=heard.p,
                    calls=heard.calls,
                    active=heard.active_calls,
                    given=heard.given,
                    location=heard.location,
                )
                for heard in self._dropouts.values()
            ),
            adversarial=self.probe.loop.interleaved,
        )

    def _describe(self, model: _Model, names: dict[int, str]) -> ModelModes:
        training = [forward for forward in model.forwards if forward.backward]
        evaluation = [forward for forward in model.forwards if _evaluates(forward)]
        wrong = [forward for forward in evaluation if forward.training]
        graphs = [forward for forward in evaluation if forward.graph]
        forgotten, before, chosen = self._forgotten(model, training)
        first = next((forward for forward in wrong if forward.location), None)
        built = next((forward for forward in graphs if forward.location), None)
        return ModelModes(
            model=names.get(id(model.module), type(model.module).__name__),
            location=self.probe.program.location_of(model.module),
            training_forwards=len(training),
            evaluation_forwards=len(evaluation),
            modules=_modules(model, training, evaluation, names, self.probe.program.location_of),
            train_mode_evaluations=len(wrong),
            repeated_evaluations=_repeated(model.forwards),
            held_out_evaluations=sum(forward.fed is not None and forward.fed.role == "held-out" for forward in wrong),
            measured_evaluations=sum(forward.measured for forward in wrong),
            evaluation_location=first.location if first else None,
            train_location=self._switch_of(model, wrong[0], True) if wrong else None,
            forgotten=len(forgotten),
            forgotten_since=forgotten[0].step if forgotten else None,
            trained_before=before,
            eval_location=self._switch_of(model, forgotten[0], False) if forgotten else None,
            chosen=chosen,
            graph_evaluations=len(graphs),
            graph_location=built.location if built else None,
        )

    def _forgotten(self, model: _Model, training: Sequence[_Forward]) -> tuple[list[_Forward], int, int]:
        """(training forwards in an evaluation mode that was meant for an evaluation, those in training mode before the
        first of them, others in evaluation mode). An eval() is meant for what comes right after it."""
        meant: dict[int, bool] = {}  # number of switches before -> whether an evaluation came first
        on_purpose = False
        forgotten: list[_Forward] = []
        before = chosen = 0
        for forward in model.forwards:
            if forward.training:
                before += forward.backward and not forgotten
                on_purpose = False
                continue
            known = self._setting(model, forward.switch)
            if forward.backward:
                if meant.setdefault(known, False) and not on_purpose:
                    forgotten.append(forward)
                else:
                    on_purpose = True
                    chosen += 1
            elif _evaluates(forward) or (before and _looks(forward)):
                meant.setdefault(known, True)
        return forgotten, before, chosen

    def _setting(self, model: _Model, before: int) -> int:
        """Number of the switch that had set the model's own mode; -1: none was seen."""
        wanted = id(model.module)
        return next((number for number in range(before - 1, -1, -1) if wanted in self._switches[number].covers), -1)

    def _switch_of(self, model: _Model, forward: _Forward, training: bool) -> Location | None:
        number = self._setting(model, forward.switch)
        return self._switches[number].location if number >= 0 and self._switches[number].training == training else None


def _evaluates(forward: _Forward) -> bool:
    if forward.backward:
        return False
    # Before any training, a pass in training mode whose outputs nobody measures fills running statistics.
    useful = forward.step > 0 or forward.measured or not forward.training
    held_out = useful and forward.fed is not None and forward.fed.role == "held-out"
    if not held_out and forward.loss is not None and not bool(torch.isfinite(forward.loss)):
        return False  # a training step that the loop gave up, as its loss is NaN
    return (held_out and (forward.first or forward.again)) or (forward.measured and not forward.familiar)


def _looks(forward: _Forward) -> bool:
    """Amid the training, at data that it was not trained on just now: an example that is shown, a sample that is drawn.
    What comes of it is not compared with anything."""
    return not forward.grad and not forward.graph and not forward.backward and not forward.familiar


def _repeated(forwards: Sequence[_Forward]) -> int:
    """Evaluation forwards in training mode that belong to several passes over one input."""
    total = run = 0
    for forward in [*forwards, None]:
        if forward is not None and forward.again and not forward.backward:
            run += 1
            continue
        total += run + 1 if run + 1 >= MONTE_CARLO else 0
        run = 0
    return total


def _same(given: Sequence[torch.Tensor], kept: Sequence[weakref.ref[torch.Tensor]]) -> bool:
    return bool(given) and len(given) == len(kept) and all(a is b() for a, b in zip(given, kept, strict=True))


def _grown(known: list[nn.Module], module: nn.Module) -> list[nn.Module]:
    """The list with modules that joined at its end: flags keep their places."""
    found = {id(each) for each in known}
    return [*known, *(each for each in modal_modules(module) if id(each) not in found)]


def _modules(
    model: _Model, training: Sequence[_Forward], evaluation: Sequence[_Forward], names: dict[int, str], location_of: Any
) -> tuple[ModuleMode, ...]:
    def count(forwards: Sequence[_Forward], place: int, mode: bool) -> int:
        return sum(place < len(forward.flags) and forward.flags[place] is mode for forward in forwards)

    return tuple(
        ModuleMode(
            name=names.get(id(module), type(module).__name__),
            kind=type(module).__name__,
            role=role(module) or "dropout",
            frozen=frozen(module),
            location=location_of(module),
            training_on=count(training, place, True),
            training_off=count(training, place, False),
            evaluation_on=count(evaluation, place, True),
            evaluation_off=count(evaluation, place, False),
        )
        for place, module in enumerate(model.modal[:MOST_MODULES])
    )
