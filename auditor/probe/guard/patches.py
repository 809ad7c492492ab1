"""Putting functions in the place of built-in ones, so that nobody notices."""

from __future__ import annotations

import functools
import importlib._bootstrap_external
import io
import os
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from auditor.probe.guard.overlay import Overlay

Function = Callable[..., Any]


class Replacement:
    """Stands for a built-in function: as an attribute of a class it does not bind, and it is pickled by its name."""

    def __init__(self, original: Function, ours: Function, module: str, overlay: Overlay) -> None:
        functools.update_wrapper(self, original)
        self.__module__ = module
        self._original, self._ours, self._overlay = original, ours, overlay

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._overlay.working:
            return self._original(*args, **kwargs)
        return self._ours(self._original, *args, **kwargs)

    def __reduce__(self) -> str:
        return str(self.__name__)  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return repr(self._original)


def rebind_defaults(module: ModuleType, old: Function, new: Function) -> None:
    """Default arguments of a module's methods that were bound to a function before it was replaced."""
    for kind in [value for value in vars(module).values() if isinstance(value, type)]:
        for method in vars(kind).values():
            if isinstance(method, FunctionType) and method.__defaults__ and old in method.__defaults__:
                method.__defaults__ = tuple(new if value is old else value for value in method.__defaults__)


def let_imports_follow() -> None:
    """A script may write a module and import it. The import system calls the system past `os` and `io`: from now on it
    goes through them."""
    machinery: Any = importlib._bootstrap_external
    machinery._os, machinery._io = os, io
