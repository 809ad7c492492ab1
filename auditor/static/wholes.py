"""Which variables an expression reads all rows of, and which it takes a part of."""

from __future__ import annotations

import ast
from collections.abc import Callable


def all_rows(value: ast.expr) -> set[str]:
    """Variables that are read as a whole, but for the names of constants, which are settings; none where it takes a
    part of their rows."""
    return set() if takes_a_part(value) else {name for name in unsliced(value) if not is_constant(name)}


def is_constant(name: str) -> bool:
    """By its spelling a setting, how many columns to keep for example; X, Y and Z are tables all the same."""
    return name.isupper() and name not in ("X", "Y", "Z")


def unsliced(value: ast.expr, skipped: Callable[[ast.AST], bool] | None = None) -> set[str]:
    """Variables read as a whole: not by a part of their rows, and not as a function that is called. What is `skipped`
    reads nothing."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if skipped is not None and skipped(node):
            return
        if isinstance(node, ast.Subscript):
            if part_of(node.slice) and not keeps_rows(node.slice):
                return
            visit(node.value)
            return
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                visit(node.func.value)
            for argument in [*node.args, *(word.value for word in node.keywords)]:
                visit(argument)
            return
        if isinstance(node, ast.Name):
            found.add(node.id)
            return
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(value)
    return found


def part_of(index: ast.expr) -> str:
    """The rows that an index takes, as text; '' where it takes them all."""
    if isinstance(index, ast.Tuple):
        index = index.elts[0] if index.elts else index
    if isinstance(index, ast.Slice):
        low = ast.unparse(index.lower) if index.lower is not None else ""
        high = ast.unparse(index.upper) if index.upper is not None else ""
        return f"{low}:{high}" if low or high else ""
    if isinstance(index, ast.Constant) and (index.value is None or index.value is Ellipsis):
        return ""
    return ast.unparse(index)


def keeps_rows(index: ast.expr) -> bool:
    return isinstance(index, ast.Tuple) and not part_of(index)


def takes_a_part(value: ast.expr) -> bool:
    return any(
        isinstance(node, ast.Subscript) and part_of(node.slice) and not keeps_rows(node.slice)
        for node in ast.walk(value)
    )


def bounds_in(value: ast.expr) -> set[str]:
    """Names that only say how many are taken: the bounds of slices, and what `topk` is told."""
    counts: list[ast.expr] = []
    for node in ast.walk(value):
        if isinstance(node, ast.Slice):
            counts += [bound for bound in (node.lower, node.upper) if bound is not None]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("topk", "argpartition"):
            method = not (
                isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in ("torch", "np", "numpy")
            )
            counts += [*node.args[0 if method else 1 :], *(word.value for word in node.keywords if word.arg == "k")]
    return {name.id for count in counts for name in ast.walk(count) if isinstance(name, ast.Name)}
