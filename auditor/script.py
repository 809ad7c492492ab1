"""Looks at the target before anything runs: is it there, is it Python."""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
import traceback
import warnings
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from auditor.errors import AuditError
from auditor.evidence import Crash, Location

_LAUNCHERS = ("python", "python3", "torchrun", "accelerate", "deepspeed", "uv")


def find_script(target: str) -> Path:
    """The file to run. Raises AuditError when there is none that can be read."""
    path = Path(target)
    if target == "-":
        raise AuditError("a script cannot be read from standard input; save it to a file first")
    try:
        if path.is_dir():
            path = path / "__main__.py"
            if not path.is_file():
                raise AuditError(f"{target} is a folder without a __main__.py; name the script in it")
        if not path.exists():
            raise AuditError(f"{target}: there is no such file{_hint(target)}")
        if path.suffix == ".ipynb":
            raise AuditError(f"{target} is a notebook; `jupyter nbconvert --to script {target}` makes a script of it")
        if not path.is_file():
            raise AuditError(f"{target} is not a regular file")
        with open(path, "rb"):
            return path
    except (OSError, ValueError) as why:
        raise AuditError(f"{target} cannot be read: {getattr(why, 'strerror', None) or why}") from None


def _hint(target: str) -> str:
    if target in _LAUNCHERS:
        return "; give the script itself: audit run train.py"
    if not target.endswith(".py") and "/" not in target and _module_origin(target):
        return f"; did you mean the module: audit run -m {target}?"
    path = Path(target)
    beside = [name for name in _names(path.parent) if name.endswith(".py")]
    near = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.6)
    return f"; did you mean {path.parent / near[0]}?" if near else ""


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def find_module(name: str) -> Path | None:
    """The file that `-m name` runs, None where it has no source. Raises AuditError when there is no such module."""
    if name.endswith(".py") or "/" in name:
        raise AuditError(f"-m takes a module's name like package.train; for a file: audit run {name}")
    spec = _spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        main = PathFinder.find_spec("__main__", list(spec.submodule_search_locations))
        if main is None:
            raise AuditError(f"{name} is a package without a __main__; name a module in it: -m {name}.train")
        spec = main
    if spec is None:
        raise AuditError(f"no module is called {name}, seen from this folder")
    return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None


def _module_origin(name: str) -> bool:
    spec = _spec(name)
    return spec is not None and spec.origin is not None


def _spec(name: str) -> ModuleSpec | None:
    """Finds a module as `python -m` would, but without importing its parent packages: they may import torch."""
    top, *rest = name.split(".")
    here = [] if sys.flags.safe_path else [os.getcwd()]
    try:
        spec = PathFinder.find_spec(top, here) or importlib.util.find_spec(top)
        for part in rest:
            if spec is None or spec.submodule_search_locations is None:
                return None
            # By its last name only: with the dotted one, a namespace package would ask for its imported parent.
            spec = PathFinder.find_spec(part, list(spec.submodule_search_locations))
    except (ImportError, ValueError):
        return None
    return spec


def syntax_crash(path: Path) -> Crash | None:
    """The crash that compiling the file would be; None when it compiles. Nothing is executed."""
    try:
        source = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the script's own run says them
            compile(source, str(path), "exec", dont_inherit=True)
    except SyntaxError as wrong:
        text = "".join(traceback.format_exception_only(wrong))
        where = Location(file=str(path.absolute()), line=wrong.lineno) if wrong.lineno else None
        return Crash(kind=type(wrong).__name__, message=wrong.msg or "", traceback=text, location=where)
    except ValueError as wrong:  # null bytes, in Python 3.11
        return Crash(kind="SyntaxError", message=str(wrong), location=Location(file=str(path.absolute()), line=1))
    except (OSError, RecursionError, MemoryError):
        return None
    return None
