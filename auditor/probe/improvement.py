"""Whether what runs now is guarded by an improvement, seen in the source: `if score > best: best = score; ...`, or
`if better(score): ...`, where a function of the script's own compares."""

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
    judges = _judges(tree)
    for scope in [tree, *(node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS[:2]))]:
        flags = dict(_flags(scope))
        for node in _inside(scope):
            if not isinstance(node, ast.If):
                continue
            for branch in (node.body, node.orelse):
                metric = _metric(node.test, branch, flags)
                if branch is node.body and not metric:
                    metric = _judged(node.test, judges)
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


def _judges(tree: ast.Module) -> dict[str, ast.FunctionDef]:
    """Functions and methods by their name, where it is that of one alone."""
    defined = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    names = [node.name for node in defined]
    return {node.name: node for node in defined if names.count(node.name) == 1}


def _judged(test: ast.expr, judges: dict[str, ast.FunctionDef]) -> str:
    """`if self.better(score)`, where `better` compares what it is given with the best so far; of a test in several
    parts, or one turned round, nothing is known."""
    if not isinstance(test, ast.Call) or not isinstance(test.func, ast.Name | ast.Attribute):
        return ""
    judge = judges.get(test.func.id if isinstance(test.func, ast.Name) else test.func.attr)
    if judge is None:
        return ""
    given = _given(test, judge)
    for answer in (node.value for node in _inside(judge) if isinstance(node, ast.Return)):
        for compare in ast.walk(answer) if answer is not None else ():
            if isinstance(compare, ast.Compare) and len(compare.ops) == 1 and isinstance(compare.ops[0], _ORDER):
                score, best = compare.left, compare.comparators[0]
                if "best" in ast.unparse(score):
                    score, best = best, score
                if "best" in ast.unparse(best) and "best" not in ast.unparse(score):
                    return _as_called(score, given)[:80]
    return ""


def _given(call: ast.Call, function: ast.FunctionDef) -> dict[str, ast.expr]:
    """Parameter -> what the call gives for it."""
    names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
    if isinstance(call.func, ast.Attribute) and names[:1] == ["self"]:
        names = names[1:]
    named = {word.arg: word.value for word in call.keywords if word.arg}
    return {**dict(zip(names, call.args, strict=False)), **named}


def _as_called(score: ast.expr, given: dict[str, ast.expr]) -> str:
    """The score, in the words of the call."""
    if isinstance(score, ast.Name):
        return ast.unparse(given.get(score.id, score))
    if isinstance(score, ast.Attribute):
        return f"{_as_called(score.value, given)}.{score.attr}"
    return ast.unparse(score)


def _targets(statement: ast.stmt) -> Iterator[ast.expr]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from target.elts if isinstance(target, ast.Tuple) else [target]
        elif isinstance(node, ast.AnnAssign):
            yield node.target
