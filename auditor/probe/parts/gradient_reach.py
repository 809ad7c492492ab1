"""Which of the optimizers' parameters ever had a gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from auditor.evidence import CutRecurrence, GradientReach, Unreached
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.recurrences import WATCHED, Recurrences
from auditor.probe.rewind import is_lazy
from auditor.probe.steps import StepSeen


class GradientReachCollector(Collector):
    """`.grad is None` after every backward and at every update. A gradient of zeros is a gradient: gates that start at
    zero have one."""

    name = "gradient_reach"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._waiting: dict[int, list[torch.Tensor]] = {}  # optimizer -> those without a gradient so far
        self._updates: dict[int, int] = {}
        self._graded: set[int] = set()  # had a gradient after a backward, which something then took away
        self._rootless = 0
        self._backward_location: Any = None
        self._recurrences = Recurrences()
        self._given: tuple[Any, ...] = ()  # to the root that is running

    def watches(self, step: int) -> bool:
        return step < WATCHED

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._given = (args, kwargs)

    def forwarded(self, module: nn.Module, result: Any) -> None:
        if self.step < WATCHED:
            self._recurrences.called(module, self._given, result)
        self._given = ()

    def layer_forwarded(self, module: nn.Module, args: Any, result: Any) -> None:
        if self.step < WATCHED:
            self._recurrences.called(module, args, result)

    outside_forwarded = layer_forwarded

    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None:
        if any(root.grad_fn is None and not isinstance(root, nn.Parameter) for root in roots):
            self._rootless += 1
        if self.step < WATCHED:
            self._recurrences.backward_begins()

    def backward_ended(self) -> None:
        self._recurrences.backward_ended()
        for waiting in self._waiting.values():
            self._graded.update(id(parameter) for parameter in waiting if parameter.grad is not None)

    def step_ended(self, step: StepSeen) -> None:
        self._recurrences.forget()
        if self._backward_location is None and step.backwards:
            self._backward_location = step.backwards[0].location

    def update_begins(self, optimizer: torch.optim.Optimizer | None, parameters: list[torch.Tensor]) -> None:
        if optimizer is None:
            return
        key = id(optimizer)
        self._updates[key] = self._updates.get(key, 0) + 1
        waiting = self._waiting.get(key, parameters)
        self._waiting[key] = [parameter for parameter in waiting if parameter.grad is None]

    def unreached(self) -> list[torch.Tensor]:
        """Parameters that require a gradient and had none at any update of any optimizer that holds them."""
        found: dict[int, torch.Tensor] = {}
        reached: set[int] = set()
        for record in self.probe.program.optimizers:
            waiting = {id(parameter) for parameter in self._waiting.get(id(record.optimizer), ())}
            stepped = id(record.optimizer) in self._updates
            for parameter in record.parameters:
                if stepped and id(parameter) not in waiting:
                    reached.add(id(parameter))
                elif stepped and parameter.requires_grad and not is_lazy(parameter):
                    found.setdefault(id(parameter), parameter)
        return [parameter for key, parameter in found.items() if key not in reached | self._graded]

    def moved(self, parameter: torch.Tensor) -> bool:
        """Whether its value is another one than before the first step."""
        before = self.probe.initial.initial(parameter) if self.probe.initial is not None else None
        return before is not None and not torch.equal(before, parameter.detach().cpu())

    def part(self) -> GradientReach:
        if not self._updates:
            if self.probe.manual():
                raise Unavailable("the weights are updated without a torch optimizer")
            raise Unavailable("no step of an optimizer was seen", "inconclusive")
        held = {
            id(p): p.numel()
            for record in self.probe.program.stepped()
            for p in record.parameters
            if p.requires_grad and not is_lazy(p)
        }
        return GradientReach(
            steps=max(self._updates.values()),
            parameters=sum(held.values()),
            unreached=tuple(self._describe()),
            rootless=self._rootless,
            recurrences=tuple(self._cut_recurrences()),
            backward_location=self._backward_location,
        )

    def _cut_recurrences(self) -> Iterator[CutRecurrence]:
        names = self.probe.program.module_names()
        seen: set[int] = set()
        for each in self._recurrences.found:
            if id(each.module) not in seen:
                seen.add(id(each.module))
                yield CutRecurrence(
                    name=names.get(id(each.module), type(each.module).__name__),
                    kind=type(each.module).__name__,
                    cell=isinstance(each.module, nn.RNNCellBase | nn.RNNBase),
                    calls=each.calls,
                    cut=each.cut,
                    kept=each.kept,
                    reached=each.reached,
                    location=each.location,
                )

    def _describe(self) -> list[Unreached]:
        layers = self.probe.program.parameter_layers()
        groups: dict[str, list[torch.Tensor]] = {}
        for parameter in self.unreached():
            name = layers[id(parameter)][0] if id(parameter) in layers else ""
            groups.setdefault(name, []).append(parameter)
        found = []
        for name, parameters in groups.items():
            layer = layers[id(parameters[0])][1] if name else None
            record = next(
                record
                for record in self.probe.program.optimizers
                if any(parameters[0] is held for held in record.parameters)
            )
            found.append(
                Unreached(
                    name=name,
                    kind=type(layer).__name__ if layer is not None else "Tensor",
                    parameters=sum(parameter.numel() for parameter in parameters),
                    optimizer=type(record.optimizer).__name__,
                    steps=self._updates.get(id(record.optimizer), 0),
                    moved=any(map(self.moved, parameters)),
                    location=self.probe.program.location_of(layer) if layer is not None else record.location,
                )
            )
        return found
