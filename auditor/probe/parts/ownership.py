"""Which parameters the gradients reach and which ones the optimizers hold, by identity, from the executed graph."""

from __future__ import annotations

import re
import sys
from typing import Any

import torch
from torch import nn

from auditor.evidence import LeftOut, Ownership, StaleGroup
from auditor.probe.collect import Collector, Unavailable, sampled
from auditor.probe.graph import graph_leaves
from auditor.probe.locate import GRADIENTS_READ, sources_mention
from auditor.probe.owners import Owners, from_outside, owners, sample
from auditor.probe.parts.gradients import dense_gradients, norms
from auditor.probe.program import WRAPPERS, OptimizerSeen
from auditor.probe.rewind import is_lazy
from auditor.probe.steps import StepSeen

MOST_NAMED = 8  # tensors of one module
_READS = re.compile(GRADIENTS_READ + r"|\bgrad\(")


class OwnershipCollector(Collector):
    name = "ownership"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._reached: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # with a sample of its first value
        self._graded: set[int] = set()  # left out, and with a gradient other than zero
        self._norms: list[tuple[tuple[int, ...], torch.Tensor]] = []
        self._with_gradient: set[int] = set()  # had a .grad at an update, as was noted for the norms
        self._looks = 0
        self._functional: set[int] = set()
        self._loose: dict[int, tuple[torch.Tensor, torch.Tensor, int]] = {}  # leaves that are no parameters; looks

    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None:
        if not sampled(self.step) or self.step > 30:
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
        if not sampled(self.step) or not (self._reached or self._loose):
            return
        held = self._held()
        left = {**{key: leaf for key, (leaf, _) in self._reached.items()}, **{k: e[0] for k, e in self._loose.items()}}
        found, grads = dense_gradients([leaf for key, leaf in left.items() if key not in held | self._graded])
        if grads:
            self._norms.append((tuple(map(id, found)), norms(grads)))

    def _held(self) -> set[int]:
        return {id(p) for record in self.probe.program.optimizers for p in record.parameters}

    def forgotten(self) -> list[torch.Tensor]:
        """Parameters that the gradients reach and no optimizer holds."""
        held = self._held()
        return [leaf for key, (leaf, _) in self._reached.items() if key not in held and leaf.requires_grad]

    def part(self) -> Ownership:
        probe = self.probe
        stepped = probe.program.stepped()
        if probe.manual() or not stepped:
            raise Unavailable("the weights are updated without a torch optimizer")
        if not self._looks:
            raise Unavailable("no backward() was seen", "inconclusive")
        known = owners(probe.program)
        if any(type(module).__name__ == "FullyShardedDataParallel" for module, _ in known.parents.values()):
            raise Unavailable("the parameters are sharded: the optimizer holds flat copies of them")
        for keys, vector in self._norms:
            graded = (key for key, norm in zip(keys, vector.tolist(), strict=True) if norm > 0)
            self._graded.update(graded)
        self._with_gradient = set(probe.collectors.find("gradients").graded())
        held = self._held()
        graph = set(self._reached)
        self._add_weights_in_functions(held)
        return Ownership(
            steps=probe.observed,
            trained=sum(p.numel() for record in stepped for p in record.parameters if id(p) in self._with_gradient),
            left_out=self._left_out(known, held),
            stale=tuple(group for record in stepped if (group := self._stale(record, known, graph)) is not None),
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
