"""Modules that a model keeps where `named_parameters()` does not look: in plain lists, dicts and objects."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from auditor.evidence import HiddenModule, HiddenModules
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, Unavailable, sampled
from auditor.probe.locate import GRADIENTS_READ, is_users, sources_mention
from auditor.probe.rewind import is_lazy

_READS = re.compile(GRADIENTS_READ)
DEPTH = 3  # of containers in containers
MOST = 10_000  # things looked at in one attribute
KEPT = 64  # elements of a weight that show whether it moved
OWN = frozenset(vars(nn.Module()))  # attributes of every module: registered children, hooks, the mode


@dataclass
class _Holder:
    """One attribute with what it hides."""

    name: str
    container: str
    modules: list[nn.Module]
    parameters: list[torch.Tensor]
    before: list[torch.Tensor] = field(default_factory=list)
    reached: int = 0
    owner: nn.Module | None = None
    attribute: str = ""


class HiddenModulesCollector(Collector):
    name = "hidden_modules"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._holders: dict[str, _Holder] = {}
        self._models = -1  # called modules when the attributes were looked through last
        self._registered = 0
        self._steps = 0
        self._fed: set[int] = set()
        self._rows: set[int] = set()

    def update_begins(self, optimizer: torch.optim.Optimizer | None, parameters: list[torch.Tensor]) -> None:
        if not sampled(self.step):
            return
        if len(self.probe.program.kept) != self._models:
            self._look()
        self._steps += 1
        for holder in self._holders.values():
            holder.reached += any(parameter.grad is not None for parameter in holder.parameters)

    def _look(self) -> None:
        models = self.probe.program.models()
        registered = {id(p): p.numel() for _, model in models for p in model.parameters() if not is_lazy(p)}
        self._registered = sum(registered.values())
        self._models = len(self.probe.program.kept)
        for name, model in models:
            for path, module in model.named_modules():
                for attribute, value in list(vars(module).items()):
                    if attribute in OWN or isinstance(value, nn.Module | str | int | float):
                        continue
                    found = self._hidden(f"{path or name}.{attribute}", value, registered)
                    if found is not None and found.name not in self._holders:
                        found.owner, found.attribute = module, attribute
                        found.before = [_sample(parameter) for parameter in found.parameters]
                        self._holders[found.name] = found

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._note(args, kwargs)

    def layer_forwarded(self, module: nn.Module, args: Any, result: Any) -> None:
        self._note(args, result)

    def watches(self, step: int) -> bool:
        return step == 0

    def _note(self, *given: Any) -> None:
        """Sizes of batches, and tensors that modules are called with: these are inputs, as points of a grid are."""
        if self.step == 0:
            for tensor in tensors(given):
                self._fed.add(id(tensor))
                self._rows.update(tensor.shape[:1])

    def _hidden(self, name: str, value: Any, registered: dict[int, int]) -> _Holder | None:
        """What the attribute holds besides registered parameters; None when there is nothing to train in it."""
        modules: list[nn.Module] = []
        parameters: dict[int, torch.Tensor] = {}
        for found in _inside(value):
            if isinstance(found, torch.Tensor):
                own = [found] if isinstance(found, nn.Parameter) or self._is_weight(found) else []
            else:
                own = list(found.parameters())
            own = [p for p in own if id(p) not in registered and p.requires_grad and not is_lazy(p)]
            if own and isinstance(found, nn.Module):
                modules.append(found)
            parameters.update((id(parameter), parameter) for parameter in own)
        return _Holder(name, type(value).__name__, modules, list(parameters.values())) if parameters else None

    def _is_weight(self, tensor: torch.Tensor) -> bool:
        """A tensor that was made to be trained, but for being a parameter: no input of a module, no row a sample."""
        trained = tensor.requires_grad and tensor.is_leaf and tensor.dim() and not is_lazy(tensor)
        made = bool(trained) and id(tensor) not in self._fed and tensor.shape[0] not in self._rows
        return made and not sources_mention(_READS)  # gates, whose gradient is what the script is after

    def part(self) -> HiddenModules:
        if not self._steps:
            raise Unavailable("no update of a model's weights was seen", "inconclusive")
        if not self.probe.program.models():
            raise Unavailable("the loop trains no module")
        kept = [holder for holder in self._holders.values() if _still_held(holder)]
        return HiddenModules(steps=self._steps, registered=self._registered, found=tuple(map(self._describe, kept)))

    def _describe(self, holder: _Holder) -> HiddenModule:
        program = self.probe.program
        held = {id(p) for record in program.optimizers for p in record.parameters}
        inner = [module for outer in holder.modules for module in outer.modules()]
        return HiddenModule(
            holder=holder.name,
            container=holder.container,
            kinds=tuple(dict.fromkeys(type(module).__name__ for module in holder.modules))[:8],
            modules=len(holder.modules),
            parameters=sum(parameter.numel() for parameter in holder.parameters),
            reached=holder.reached,
            optimized=any(id(parameter) in held for parameter in holder.parameters),
            moved=any(not torch.equal(a, _sample(p)) for a, p in zip(holder.before, holder.parameters, strict=True)),
            training=any(module.training for module in inner) if inner else True,
            loaded=any(program.has_loaded(module) for module in inner),
            location=next(filter(None, map(program.location_of, [*holder.modules, holder.owner])), None),
        )


def _still_held(holder: _Holder) -> bool:
    """Plain tensors that are made anew at each step, as the perturbations of an attack are, are no weights."""
    if holder.modules or all(isinstance(each, nn.Parameter) for each in holder.parameters):
        return True
    now = {id(each) for each in _inside(getattr(holder.owner, holder.attribute, None))}
    return all(id(each) in now for each in holder.parameters)


def _inside(value: Any) -> Iterator[nn.Module | torch.Tensor]:
    """Modules and tensors in plain containers and in objects of the user's own classes."""
    if isinstance(value, torch.Tensor):
        yield value
        return
    queue: list[tuple[Any, int]] = [(value, 0)]
    seen: set[int] = set()
    while queue and len(seen) < MOST:
        current, depth = queue.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, nn.Module | torch.Tensor):
            yield current
        elif depth < DEPTH:
            queue.extend((item, depth + 1) for item in _items(current))


def _items(value: Any) -> list[Any]:
    if isinstance(value, list | tuple | set):
        return list(value)
    if isinstance(value, Mapping) and isinstance(value, dict):
        return list(value.values())
    if hasattr(value, "__dict__") and not isinstance(value, type) and _is_users_own(type(value)):
        return list(vars(value).values())
    return []


def _is_users_own(kind: type) -> bool:
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return isinstance(file, str) and is_users(file)


def _sample(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.detach().reshape(-1)[:KEPT].clone()
