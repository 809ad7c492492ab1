"""Runs the user's script exactly as `python train.py` or `python -m package.module` would."""

from __future__ import annotations

import builtins
import importlib.machinery
import importlib.util
import os
import runpy
import sys
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any


def run_as_main(target: str, args: tuple[str, ...], module: bool) -> ModuleType:
    """Returns the finished `__main__`. Whatever the script raises comes through."""
    if module:
        return _run_module(target, args)
    return _run_file(target, args)


def _run_file(target: str, args: tuple[str, ...]) -> ModuleType:
    if Path(target).is_dir():
        return _run_folder(target, args)
    _search_first(os.path.dirname(os.path.realpath(target)))
    sys.argv[:] = [target, *args]
    path = os.path.join(os.getcwd(), target)  # made absolute but not tidied, as the interpreter does
    main = _new_main(path, None, "")
    main.__dict__["__loader__"] = importlib.machinery.SourceFileLoader("__main__", path)
    return _execute(main, compile(Path(path).read_bytes(), path, "exec", dont_inherit=True))


def _run_folder(target: str, args: tuple[str, ...]) -> ModuleType:
    """A folder with a `__main__.py` is put on the path and its `__main__` is run as a module."""
    _search_first(os.path.join(os.getcwd(), target))
    sys.argv[:] = [target, *args]
    del sys.modules["__main__"]  # ours, which would be found instead
    _, spec, code = runpy._get_module_details("__main__")  # type: ignore[attr-defined]
    return _execute_module(spec, code)


def _search_first(folder: str) -> None:
    if not getattr(sys.flags, "safe_path", False) and not sys.flags.isolated:
        sys.path.insert(0, folder)


def _run_module(target: str, args: tuple[str, ...]) -> ModuleType:
    """As `-m` does: the working directory comes first on the path, packages are imported, `__spec__` is set."""
    _search_first(os.getcwd())
    sys.argv[:] = ["-m", *args]
    # What the interpreter's own -m uses.
    _, spec, code = runpy._get_module_details(target)  # type: ignore[attr-defined]
    sys.argv[0] = spec.origin
    return _execute_module(spec, code)


def _execute_module(spec: Any, code: CodeType) -> ModuleType:
    main = _new_main(spec.origin, spec, spec.parent)
    main.__dict__.update(__loader__=spec.loader, __cached__=spec.cached)
    return _execute(main, code)


def _new_main(file: str, spec: Any, package: str) -> ModuleType:
    main = ModuleType("__main__")
    main.__dict__.update(
        __file__=file,
        __builtins__=builtins,
        __spec__=spec,
        __package__=package if spec is not None else None,
        __cached__=None,
    )
    sys.modules["__main__"] = main
    return main


def _execute(main: ModuleType, code: CodeType) -> ModuleType:
    exec(code, main.__dict__)
    return main
