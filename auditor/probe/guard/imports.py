"""Doing something to a module right after it has been imported, whenever that will be."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

Change = Callable[[ModuleType], None]


def after_import(changes: dict[str, list[Change]]) -> None:
    """Apply changes to the modules named: now to those that are there, later to the others."""
    waiting = {}
    for name, applied in changes.items():
        if name in sys.modules:
            for change in applied:
                change(sys.modules[name])
        else:
            waiting[name] = applied
    sys.meta_path.insert(0, _AfterImport(waiting))


class _AfterImport(importlib.abc.MetaPathFinder):
    """Finds nothing itself: it lets the other finders find, and adds to what the loader does."""

    def __init__(self, changes: dict[str, list[Change]]) -> None:
        self._changes = changes
        self._finding = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._changes or self._finding:
            return None
        self._finding = True
        try:
            found = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self)
            spec = next((spec for spec in found if spec is not None), None)
        finally:
            self._finding = False
        if spec is None or spec.loader is None or not hasattr(spec.loader, "exec_module"):
            return None
        execute = spec.loader.exec_module

        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            # Only now: a module is also looked for by those who ask whether it is installed.
            for change in self._changes.pop(fullname, []):
                change(module)

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec
