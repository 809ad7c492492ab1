"""Facts about the user's source that the probe needs while the script runs."""

from __future__ import annotations

import ast
import linecache
from functools import lru_cache

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)


@lru_cache(maxsize=256)
def _loops(file: str) -> tuple[tuple[int, int, int], ...]:
    """(first line, last line, first line of the function around it; 0 for the module) of every loop."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError, RecursionError):
        return ()
    found: list[tuple[int, int, int]] = []

    def visit(node: ast.AST, scope: int) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _LOOPS):
                found.append((child.lineno, child.end_lineno or child.lineno, scope))
            inner = _first_line(child) if isinstance(child, _SCOPES) and not isinstance(child, ast.ClassDef) else scope
            visit(child, inner)

    visit(tree, 0)
    return tuple(found)


def _first_line(node: ast.AST) -> int:
    """The line that a code object calls its first: that of the first decorator."""
    decorators = getattr(node, "decorator_list", [])
    return min([getattr(node, "lineno", 0), *(int(decorator.lineno) for decorator in decorators)])


def loops_around(file: str, line: int, scope_line: int) -> int:
    """How many loop statements of the running function contain the line. `scope_line`: co_firstlineno of its code."""
    loops = _loops(file)
    scopes = {scope for _, _, scope in loops}
    scope = scope_line if scope_line in scopes else 0
    return sum(1 for first, last, owner in loops if first <= line <= last and owner == scope)
