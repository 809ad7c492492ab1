"""Which parameters the gradients reach and which ones the optimizers hold, by identity, from the executed graph.

A script may train in stages: another optimizer takes over, a layer is replaced between two rounds. So all that is noted
belongs to a window of steps, and a new one begins whenever modules were given parameters, or an optimizer was built, in
between, or an optimizer finds no gradient any more: a copy may have taken the place of the model.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from auditor.evidence import FrozenStart, LeftOut, Ownership, StaleGroup, Unreleased
from auditor.probe.collect import Collector, Unavailable, sampled
from auditor.probe.graph import graph_leaves
from auditor.probe.held import held
from auditor.probe.locate import GRADIENTS_READ, sources_mention
from auditor.probe.owners import Owners, from_outside, owners, sample
from auditor.probe.parts.gradients import dense_gradients, norms
from auditor.probe.program import WRAPPERS, OptimizerSeen
from auditor.probe.rewind import is_lazy
from auditor.probe.standins import KINDS, is_random_stand_in
from auditor.probe.steps import StepSeen

MOST_NAMED = 8  # tensors of one module
MOST_WINDOWS = 12
LOOKS = 6  # in a window; the first few and then every tenth of its steps
FEWEST = 3  # steps of a window that is told of
_READS = re.compile(GRADIENTS_READ + r"|\bgrad\(")
_OWN_FLAG = re.compile(r"\bself\.requires_grad\b")  # a class that keeps a flag of this name knows what it is for


class OwnershipCollector(Collector):
    name = "ownership"
    looks_on = True

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._told: list[Ownership] = []  # of the windows before
        self._windows = 0
        self._dry: set[int] = set()  # optimizers whose latest update found no gradient
        self._ran_dry = 0  # times that one did after updates that had found some
        self._changes = self._count_changes()
        self._begin_window()

    def _begin_window(self) -> None:
        self._began = self.step
        self._reached: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # with a sample of its first value
        self._graded: set[int] = set()  # left out, and with a gradient other than zero
        self._norms: list[tuple[tuple[int, ...], torch.Tensor]] = []
        self._with_gradient: set[int] = set()  # had a .grad at an update, as was noted for the norms
        self._looks = 0
        self._functional: set[int] = set()
        self._loose: dict[int, tuple[torch.Tensor, torch.Tensor, int]] = {}  # leaves that are no parameters; looks
        self._frozen: dict[int, nn.Module] = {}  # layers that pass a gradient on and take none
        self._stepping: set[int] = set()  # optimizers that have stepped in the window

    def _count_changes(self) -> tuple[int, int, int]:
        program = self.probe.program
        return program.registrations.count, len(program.optimizers), self._ran_dry

    def _look_now(self) -> bool:
        return self._looks < LOOKS and sampled(self.step - self._began)

    def _follow_changes(self) -> None:
        if self._changes == self._count_changes():
            return
        self._changes = self._count_changes()
        if self._windows >= MOST_WINDOWS:  # it builds layers all the time
            return
        self._windows += 1
        if self.step - self._began >= FEWEST:
            with contextlib.suppress(Unavailable):
                self._told.append(self._window())
        self._begin_window()

    def watches(self, step: int) -> bool:
        return self._look_now()

    def layer_forwarded(self, module: nn.Module, args: Any, result: Any) -> None:
        if isinstance(module, KINDS) and args and isinstance(args[0], torch.Tensor) and args[0].requires_grad:
            weight = held(module, "weight")
            if weight is not None and not weight.requires_grad:
                self._frozen[id(module)] = module

    def update_begins(self, optimizer: torch.optim.Optimizer | None, parameters: list[torch.Tensor]) -> None:
        if optimizer is None:
            return
        if any(parameter.grad is not None for parameter in parameters):
            self._dry.discard(id(optimizer))
        elif id(optimizer) not in self._dry:
            self._dry.add(id(optimizer))
            self._ran_dry += id(optimizer) in self._stepping

    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None:
        self._follow_changes()
        if not self._look_now():
            return
        self._looks += 1
        for leaf in graph_leaves(roots):
            if isinstance(leaf, nn.Parameter) and id(leaf) not in self._reached and not is_lazy(leaf):
                self._reached[id(leaf)] = (leaf, sample(leaf))
            elif not isinstance(leaf, nn.Parameter):
                known = self._loose.get(id(leaf))
                first = known[1] if known is not None else sample(leaf)
                self._loose[id(leaf)] = (leaf, first, 1 if known is None else known[2] + 1)
        self._loose = {key: entry for key, entry in self._loose.items() if entry[2] >= self._looks - 1}

    def step_ended(self, step: StepSeen) -> None:
        self._stepping.update(step.updates)
        if not sampled(self.step - self._began) or not (self._reached or self._loose) or not self._looks <= LOOKS:
            return
        optimized = self._held()
        left = {**{key: leaf for key, (leaf, _) in self._reached.items()}, **{k: e[0] for k, e in self._loose.items()}}
        found, grads = dense_gradients([leaf for key, leaf in left.items() if key not in optimized | self._graded])
        if grads:
            self._norms.append((tuple(map(id, found)), norms(grads)))

    def _held(self) -> set[int]:
        return {id(p) for record in self.probe.program.optimizers for p in record.parameters}

    def forgotten(self) -> list[torch.Tensor]:
        """Parameters that the gradients reach and no optimizer holds."""
        optimized = self._held()
        return [leaf for key, (leaf, _) in self._reached.items() if key not in optimized and leaf.requires_grad]

    def part(self) -> Ownership:
        if self.probe.manual() or not self.probe.program.stepped():
            raise Unavailable("the weights are updated without a torch optimizer")
        short = self._told and self.step - self._began < FEWEST
        window = max(self._told if short else [*self._told, self._window()], key=_missed)  # the first of equal ones
        return window.model_copy(update={"unreleased": tuple(self._unreleased())})

    def _unreleased(self) -> Iterator[Unreleased]:
        known = owners(self.probe.program)
        for _, model in self.probe.program.models():
            for module in model.modules():
                if vars(module).get("requires_grad") is not True or sources_mention(_OWN_FLAG):
                    continue
                own = list(module.parameters())
                if own and not any(is_lazy(parameter) or parameter.requires_grad for parameter in own):
                    yield Unreleased(
                        name=_name(known, module, several=False),
                        kind=type(module).__name__,
                        parameters=sum(parameter.numel() for parameter in own),
                        location=self.probe.program.location_of(module),
                    )

    def _window(self) -> Ownership:
        probe = self.probe
        stepped = [record for record in probe.program.stepped() if id(record.optimizer) in self._stepping]
        if not self._looks or not stepped:
            raise Unavailable("no backward() was seen", "inconclusive")
        known = owners(probe.program)
        if any(type(module).__name__ == "FullyShardedDataParallel" for module, _ in known.parents.values()):
            raise Unavailable("the parameters are sharded: the optimizer holds flat copies of them")
        for keys, vector in self._norms:
            graded = (key for key, norm in zip(keys, vector.tolist(), strict=True) if norm > 0)
            self._graded.update(graded)
        # What had a gradient once may be stale by now, so that later windows rely on the graph alone.
        first = not self._told and not self._began
        self._with_gradient = set(probe.collectors.find("gradients").graded() if first else self._reached)
        optimized = self._held()
        graph = set(self._reached)
        self._add_weights_in_functions(optimized)
        return Ownership(
            steps=self.step - self._began,
            since=self._began,
            trained=sum(p.numel() for record in stepped for p in record.parameters if id(p) in self._with_gradient),
            left_out=self._left_out(known, optimized),
            stale=tuple(group for record in stepped if (group := self._stale(record, known, graph)) is not None),
            frozen_starts=tuple(self._frozen_starts(known, optimized)),
            optimizers=tuple(type(record.optimizer).__name__ for record in stepped),
            optimizer_location=stepped[0].location,
            own_tensors=not self._functional
            and not any(isinstance(p, nn.Parameter) for record in stepped for p in record.parameters),
        )

    def _add_weights_in_functions(self, held: set[int]) -> None:
        """Models written as functions hold plain tensors. One that every graph has as a leaf, beside others that an
        optimizer holds, is a weight too, unless its gradient is asked for: points of a differential equation, an image
        under attack."""
        ours = any(key in held for key in self._reached) or not self._reached
        if not ours or not any(key in held for key in self._loose) or sources_mention(_READS):
            return
        for key, (leaf, first, looks) in self._loose.items():
            if key not in held and looks >= min(3, self._looks) and looks == self._looks:
                self._reached[key] = (leaf, first)
                self._functional.add(key)

    def _left_out(self, known: Owners, held: set[int]) -> tuple[LeftOut, ...]:
        groups: dict[int, LeftOut] = {}
        roots = {id(known.outermost(known.of[key][0])) for key in self._reached if key in known.of}
        for key, (parameter, first) in self._reached.items():
            if key in held or key not in self._graded:
                continue
            module, own = known.of.get(key, (None, ""))
            moved = not torch.equal(sample(parameter), first)
            found = groups.get(id(module))
            loose = _variable(parameter) if key in self._functional else "(a loose parameter)"
            if found is None:
                path = known.path(module) if module is not None else []
                found = LeftOut(
                    name=_name(known, module, several=len(roots) > 1) if module is not None else loose,
                    kind=type(module).__name__ if module is not None else "",
                    parameters=0,
                    loaded=key not in self._functional if module is None else from_outside(self.probe.program, path),
                    location=self.probe.program.location_of(module),
                )
            groups[id(module)] = found.model_copy(
                update={
                    "parameters": found.parameters + parameter.numel(),
                    "tensors": (*found.tensors, own)[:MOST_NAMED],
                    "moved": found.moved or moved,
                }
            )
        return tuple(groups.values())

    def _frozen_starts(self, known: Owners, optimized: set[int]) -> Iterator[FrozenStart]:
        for layer in self._frozen.values():
            own = list(layer.parameters(recurse=False))
            if any(id(parameter) in optimized for parameter in own):
                continue
            if is_random_stand_in(self.probe.program, known, layer):
                yield FrozenStart(
                    name=_name(known, layer, several=False),
                    kind=type(layer).__name__,
                    parameters=sum(parameter.numel() for parameter in own),
                    location=self.probe.program.location_of(layer),
                )

    def _stale(self, record: OptimizerSeen, known: Owners, graph: set[int]) -> StaleGroup | None:
        """What the optimizer holds though no model in use has it and no gradient ever came."""
        roots = [known.outermost(known.of[key][0]) for key in graph & set(known.of)]
        used = {id(module): module for module in roots}
        current = {id(parameter) for module in used.values() for parameter in module.parameters()}
        gone = [
            parameter
            for parameter in record.parameters
            if isinstance(parameter, nn.Parameter)
            and not is_lazy(parameter)
            and parameter.requires_grad
            and id(parameter) not in self._with_gradient | graph | current
        ]
        if not gone:
            return None
        return StaleGroup(
            optimizer=type(record.optimizer).__name__,
            tensors=len(gone),
            parameters=sum(parameter.numel() for parameter in gone),
            shapes=tuple(tuple(parameter.shape) for parameter in gone[:MOST_NAMED]),
            all_of_it=len(gone) == len(record.parameters),
            location=record.location,
        )


def _missed(window: Ownership) -> int:
    """Numbers that are never updated, as the rules count them."""
    fresh = [each for each in window.left_out if not each.moved and (window.stale or not each.loaded)]
    missed = sum(each.parameters for each in fresh)
    return missed + sum(each.parameters for each in window.frozen_starts)


def _name(known: Owners, module: nn.Module, several: bool) -> str:
    """The name inside the user's own model: DDP's 'module.' and the like are left out. With `several` models, its class
    comes first."""
    path = known.path(module)
    while len(path) > 1 and type(path[-1][0]).__name__ in WRAPPERS:
        path = path[:-1]
    inside = [name for _, name in reversed(path[:-1])]
    model = type(path[-1][0]).__name__
    return ".".join([model, *inside] if several or not inside else inside)


def _variable(tensor: torch.Tensor) -> str:
    """What the script calls it."""
    names = vars(sys.modules["__main__"])
    found = (name for name, value in list(names.items()) if value is tensor)
    return next(found, "a tensor that is no parameter")
