"""Names for the user's objects: the variable that the source assigns them to, layers by their place in the model."""

from __future__ import annotations

import ast
import linecache
from functools import lru_cache

from auditor.evidence import Location


@lru_cache(maxsize=256)
def _assignments(file: str) -> dict[int, str]:
    """Line -> name of the variable that a statement covering the line assigns to; inner statements win."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError, RecursionError):
        return {}
    names: dict[int, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target = node.targets[0]
        elif isinstance(node, ast.AnnAssign):
            target = node.target
        else:
            continue
        name = ast.unparse(target) if isinstance(target, ast.Name | ast.Attribute) else ""
        if isinstance(target, ast.Tuple):
            continue
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1):
            names[line] = name.removeprefix("self.")
    return names


def variable_at(location: Location | None) -> str:
    """The variable assigned at a location, '' when there is none."""
    if location is None:
        return ""
    return _assignments(location.file).get(location.line, "")
