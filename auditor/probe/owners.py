"""Which module owns a parameter, for all modules that the script has built and that are still alive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from auditor.probe.program import ProgramSeen


@dataclass
class Owners:
    """A look at all live modules at one moment."""

    of: dict[int, tuple[nn.Module, str]] = field(default_factory=dict)  # id(parameter) -> module, attribute
    parents: dict[int, tuple[nn.Module, str]] = field(default_factory=dict)  # id(module) -> parent, attribute

    def path(self, module: nn.Module) -> list[tuple[nn.Module, str]]:
        """From the module outwards, each with its name in the next one, '' for the outermost."""
        found: list[tuple[nn.Module, str]] = []
        seen: set[int] = set()
        while id(module) not in seen:
            seen.add(id(module))
            parent = self.parents.get(id(module))
            found.append((module, parent[1] if parent else ""))
            if parent is None:
                break
            module = parent[0]
        return found

    def name(self, module: nn.Module) -> str:
        """'encoder.fc1', or the class name of one that is in no other module."""
        path = self.path(module)
        return ".".join(name for _, name in reversed(path[:-1])) or type(module).__name__

    def outermost(self, module: nn.Module) -> nn.Module:
        return self.path(module)[-1][0]


def owners(program: ProgramSeen) -> Owners:
    result = Owners()
    for module in program.alive():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                result.of.setdefault(id(parameter), (module, name))
        for name, child in module._modules.items():
            if child is not None:
                result.parents.setdefault(id(child), (module, name))
    return result


def from_outside(program: ProgramSeen, path: Iterable[tuple[nn.Module, str]]) -> bool:
    """Weights were loaded into one of these modules, or a library says that it is a pretrained one."""
    modules = [module for module, _ in path]
    loaded = program.loaded_ids()
    return any(id(module) in loaded or _pretrained(module) for module in modules)


def has_weights_from_outside(program: ProgramSeen) -> bool:
    """The same of any part of the models that are trained."""
    return any(from_outside(program, ((part, ""),)) for _, model in program.models() for part in model.modules())


def _pretrained(module: Any) -> bool:
    config = getattr(module, "config", None)
    return bool(getattr(config, "_name_or_path", "")) if config is not None else False


def sample(tensor: torch.Tensor, elements: int = 256) -> torch.Tensor:
    """A strided sample, for telling whether a tensor has changed."""
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // elements)].clone()
