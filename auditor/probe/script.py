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
    path = Path(target)
    if path.is_dir():
        file = path / "__main__.py"
        search = str(path)
    else:
        file = path
        search = os.path.dirname(os.path.realpath(target))
    if not getattr(sys.flags, "safe_path", False) and not sys.flags.isolated:
        sys.path.insert(0, search)
    sys.argv[:] = [target, *args]
    main = _new_main(target if not path.is_dir() else str(file), None, "")
    loader = importlib.machinery.SourceFileLoader("__main__", main.__dict__["__file__"])
    main.__dict__["__loader__"] = loader
    code = compile(file.read_bytes(), main.__dict__["__file__"], "exec", dont_inherit=True)
    return _execute(main, code)


def _run_module(target: str, args: tuple[str, ...]) -> ModuleType:
    """As `-m` does: the working directory comes first on the path, packages are imported, `__spec__` is set."""
    if not getattr(sys.flags, "safe_path", False) and not sys.flags.isolated:
        sys.path.insert(0, os.getcwd())
    sys.argv[:] = ["-m", *args]
    # What the interpreter's own -m uses.
    _, spec, code = runpy._get_module_details(target)  # type: ignore[attr-defined]
    sys.argv[0] = spec.origin
    main = _new_main(spec.origin, spec, spec.parent)
    main.__dict__["__loader__"] = spec.loader
    main.__dict__["__cached__"] = spec.cached
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
