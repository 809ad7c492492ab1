"""Indices as sums: by how much `t + AHEAD` lies behind `t - 1`."""

from __future__ import annotations

import ast
from collections import Counter

Sum = Counter[str]  # term -> how often it is added; '' for numbers


def difference(one: ast.expr, other: ast.expr) -> Sum | None:
    """`one - other`; None where one of them is more than a sum."""
    mine, its = _read(one), _read(other)
    if mine is None or its is None:
        return None
    mine.subtract(its)
    return Counter({term: times for term, times in mine.items() if times})


def at_least(total: Sum | None, least: int = 0) -> bool:
    """Names are counts, of one or more: where one is taken away, nothing is known."""
    return total is not None and all(n > 0 or not term for term, n in total.items()) and sum(total.values()) >= least


def _read(value: ast.expr) -> Sum | None:
    if isinstance(value, ast.Constant) and isinstance(value.value, int):
        return Counter({"": value.value})
    if isinstance(value, ast.Name | ast.Attribute):
        return Counter({ast.unparse(value): 1})
    if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub):
        inner = _read(value.operand)
        return Counter({term: -times for term, times in inner.items()}) if inner is not None else None
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add | ast.Sub):
        left, right = _read(value.left), _read(value.right)
        if left is None or right is None:
            return None
        (left.subtract if isinstance(value.op, ast.Sub) else left.update)(right)
        return left
    return None
