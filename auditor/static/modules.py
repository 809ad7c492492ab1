"""Which files are the user's own: the script, and the modules beside it that it imports."""

from __future__ import annotations

import ast
import os
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOST_FILES = 200
LARGEST = 1_000_000  # bytes; larger ones are data in disguise
SKIPPED = frozenset({"site-packages", "node_modules", "__pycache__", "build", "dist"})


@dataclass(frozen=True)
class Parsed:
    """One file; `tree` is None when it cannot be parsed, and `problem` says why."""

    path: str
    lines: int = 0
    tree: ast.Module | None = None
    problem: str = ""


def parse(path: Path) -> Parsed:
    """Never raises: a file that cannot be read is a fact too."""
    shown = str(path.absolute())
    try:
        if path.stat().st_size > LARGEST:
            return Parsed(shown, problem=f"larger than {LARGEST:,} bytes")
        with tokenize.open(path) as file:
            text = file.read()
        return Parsed(shown, text.count("\n") + 1, ast.parse(text))
    except SyntaxError as wrong:
        return Parsed(shown, problem=f"line {wrong.lineno}: {wrong.msg}")
    except (OSError, ValueError, RecursionError, MemoryError) as why:
        return Parsed(shown, problem=getattr(why, "strerror", None) or str(why))


def with_imports(script: Path) -> Iterator[Parsed]:
    """The script, and breadth first what it imports from its own folder, the working folder or its package."""
    queue, seen = [script.absolute()], {script.absolute()}
    while queue and len(seen) <= MOST_FILES:
        path = queue.pop(0)
        parsed = parse(path)
        yield parsed
        for found in _imports(parsed, path, (script.absolute().parent, Path.cwd())):
            if found not in seen:
                seen.add(found)
                queue.append(found)


def _imports(parsed: Parsed, path: Path, roots: tuple[Path, ...]) -> Iterator[Path]:
    for node in ast.walk(parsed.tree) if parsed.tree is not None else ():
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(alias.name, roots)
        elif isinstance(node, ast.ImportFrom):
            bases = (path.parents[node.level - 1],) if 0 < node.level <= len(path.parents) else roots
            module = node.module or ""
            for alias in node.names:
                inner = list(_files(".".join(filter(None, (module, alias.name))), bases))
                yield from inner or _files(module, bases)


def _files(module: str, roots: tuple[Path, ...]) -> Iterator[Path]:
    """The file of a module below the first root that has it."""
    for root in roots:
        place = root.joinpath(*module.split(".")) if module else root
        for candidate in (place.with_suffix(".py"), place / "__init__.py"):
            if module and candidate.is_file() and not SKIPPED & set(candidate.parts):
                yield candidate
                return


def below(paths: list[Path]) -> Iterator[Path]:
    """The Python files among the paths and in the folders among them, hidden and installed ones left out, sorted."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for folder, names, files in os.walk(path):
            hidden = [
                name for name in names if name.startswith(".") or name in SKIPPED or _is_environment(folder, name)
            ]
            names[:] = sorted(set(names) - set(hidden))
            yield from (Path(folder, file) for file in sorted(files) if file.endswith(".py"))


def _is_environment(folder: str, name: str) -> bool:
    return Path(folder, name, "pyvenv.cfg").is_file()
