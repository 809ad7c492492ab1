"""One collector for each part of the evidence that observation gathers: every `Collector` in this folder."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from auditor.probe.collect import Collector


def collectors() -> list[type[Collector]]:
    """In the order in which they hear of events."""
    modules = [import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    kinds = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Collector) and value.name
    }
    return sorted(kinds, key=lambda kind: (kind.turn, kind.name))
