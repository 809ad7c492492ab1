"""Libraries that write files by native code, past Python's `open`: they are given the diverted name."""

from __future__ import annotations

import contextlib
import functools
import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auditor.probe.guard.diversion import Diversion

# (module, attribute, position and name of the path) of functions that write, read, or open a file for both.
WRITERS = (
    ("torch", "save", 1, "f"),
    ("torch.serialization", "save", 1, "f"),
    ("torch.jit", "save", 1, "f"),
    ("torch.jit._script", "RecursiveScriptModule.save", 1, "f"),
    ("torch.autograd.profiler", "profile.export_chrome_trace", 1, "path"),
    ("safetensors", "serialize_file", 1, "filename"),
    ("safetensors.torch", "serialize_file", 1, "filename"),
    ("safetensors.numpy", "serialize_file", 1, "filename"),
    ("cv2", "imwrite", 0, "filename"),
    ("soundfile", "write", 0, "file"),
    ("pyarrow.parquet", "write_table", 1, "where"),
    ("pyarrow.feather", "write_feather", 1, "dest"),
)
READERS = (
    ("torch", "load", 0, "f"),
    ("torch.serialization", "load", 0, "f"),
    ("torch.jit", "load", 0, "f"),
    ("safetensors", "safe_open", 0, "filename"),
    ("safetensors.torch", "safe_open", 0, "filename"),
    ("safetensors.numpy", "safe_open", 0, "filename"),
    ("cv2", "imread", 0, "filename"),
    ("soundfile", "read", 0, "file"),
)
BOTH = (
    ("h5py", "File.__init__", 1, "name"),
    ("sqlite3", "connect", 0, "database"),
    ("sqlite3.dbapi2", "connect", 0, "database"),
)


def divert_native_code(diversion: Diversion) -> None:
    """Now for what is imported already, later for what is not."""
    changes: dict[str, list[Callable[[ModuleType], None]]] = {}

    def written(name: str) -> str:
        return diversion.write(name, keep=False)

    def changed(name: str) -> str:
        return diversion.write(name, keep=True)

    for table, change in ((WRITERS, written), (READERS, diversion.read), (BOTH, changed)):
        for module, attribute, position, keyword in table:
            redirect = functools.partial(_redirect, attribute, position, keyword, change, diversion.overlay.at_work)
            changes.setdefault(module, []).append(redirect)
    opener = diversion.opener
    changes.setdefault("numpy.lib._datasource", []).append(lambda module: _reopen(module, opener))
    for name in [name for name in changes if name in sys.modules]:
        for apply in changes.pop(name):
            apply(sys.modules[name])
    sys.meta_path.insert(0, _AfterImport(changes))


def _redirect(
    attribute: str,
    position: int,
    keyword: str,
    change: Callable[[str], str],
    at_work: Callable[[], AbstractContextManager[None]],
    module: ModuleType,
) -> None:
    """Replace module.attribute by a function that is given the changed path."""
    owner: Any = module
    *outer, last = attribute.split(".")
    for part in outer:
        owner = getattr(owner, part, None)
    original = getattr(owner, last, None)
    if original is None or hasattr(original, "_diverted"):
        return

    @functools.wraps(original)
    def replacement(*args: Any, **kwargs: Any) -> Any:
        path = args[position] if len(args) > position else kwargs.get(keyword)
        if path is None or not _is_path(path):
            return original(*args, **kwargs)
        file = change(os.fspath(path))
        if len(args) > position:
            args = (*args[:position], file, *args[position + 1 :])
        else:
            kwargs[keyword] = file
        with at_work():  # where it opens the file by Python's means, that is not to be diverted again
            return original(*args, **kwargs)

    replacement._diverted = True  # type: ignore[attr-defined]
    setattr(owner, last, replacement)


def _reopen(datasource: ModuleType, opener: Callable[..., Any]) -> None:
    """numpy's text functions keep a table of what opens a file by its suffix."""
    with contextlib.suppress(AttributeError, TypeError):
        openers = datasource._file_openers
        openers._load()
        openers._file_openers[None] = opener


def _is_path(path: Any) -> bool:
    """Not so for open files, and for ":memory:" and URIs of sqlite."""
    if not isinstance(path, str | os.PathLike):
        return False
    name = os.fspath(path)
    return isinstance(name, str) and bool(name) and not name.startswith((":", "file:"))


class _AfterImport(importlib.abc.MetaPathFinder):
    """Applies changes to modules right after they have been imported."""

    def __init__(self, changes: dict[str, list[Callable[[ModuleType], None]]]) -> None:
        self._changes = changes
        self._finding = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._changes or self._finding:
            return None
        self._finding = True
        try:
            spec = next(
                (
                    found
                    for finder in sys.meta_path
                    if finder is not self and (found := finder.find_spec(fullname, path, target)) is not None
                ),
                None,
            )
        finally:
            self._finding = False
        if spec is None or spec.loader is None or not hasattr(spec.loader, "exec_module"):
            return None
        changes = self._changes.pop(fullname)
        execute = spec.loader.exec_module

        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            for apply in changes:
                apply(module)

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec
