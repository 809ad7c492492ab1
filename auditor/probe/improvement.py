"""Whether what runs now is guarded by an improvement: `if score > best: best = score; ...`, seen in the source."""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Iterator
from functools import lru_cache
from types import FrameType

from auditor.probe.locate import is_users

_ORDER = (ast.Lt, ast.Gt, ast.LtE, ast.GtE)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


def guarding_metric() -> str:
    """Source of the score that an `if` around the running call compares with the best so far; '' without such a one.
    Looks through the functions that called each other to get here."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            metric = _guards(frame.f_code.co_filename).get(frame.f_lineno, "")
            if metric:
                return metric
        frame = frame.f_back
    return ""


@lru_cache(maxsize=256)
def _guards(file: str) -> dict[int, str]:
    """Line -> score whose improvement guards it."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError, RecursionError):
        return {}
    found: dict[int, str] = {}
    for scope in [tree, *(node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS[:2]))]:
        flags = dict(_flags(scope))
        for node in _inside(scope):
            if not isinstance(node, ast.If):
                continue
            for branch in (node.body, node.orelse):
                metric = _metric(node.test, branch, flags)
                if metric and branch:
                    last = branch[-1].end_lineno or branch[-1].lineno
                    found.update((line, metric) for line in range(branch[0].lineno, last + 1))
    return found


def _inside(scope: ast.AST) -> Iterator[ast.AST]:
    """Everything in a function, the functions in it left out."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, _FUNCTIONS):
            yield child
            yield from _inside(child)


def _flags(scope: ast.AST) -> Iterator[tuple[str, ast.Compare]]:
    """`is_best = score > best`"""
    for node in _inside(scope):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.value, ast.Compare):
            yield ast.unparse(node.targets[0]), node.value


def _metric(test: ast.expr, branch: list[ast.stmt], flags: dict[str, ast.Compare]) -> str:
    flagged = flags.get(ast.unparse(test)) if isinstance(test, ast.Name | ast.Attribute) else None
    for compare in [flagged] if flagged is not None else ast.walk(test):
        if not isinstance(compare, ast.Compare) or not isinstance(compare.ops[0], _ORDER):
            continue
        left, right = ast.unparse(compare.left), ast.unparse(compare.comparators[0])
        assigned = {ast.unparse(target) for node in branch for target in _targets(node)}
        for best, score in ((right, left), (left, right)):
            if (best in assigned and score not in assigned) or (flagged is not None and "best" in best):
                return score[:80]
    return ""


def _targets(statement: ast.stmt) -> Iterator[ast.expr]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from target.elts if isinstance(target, ast.Tuple) else [target]
        elif isinstance(node, ast.AnnAssign):
            yield node.target
