"""Functions of the user's own that pick columns by a statistic over the rows that they are given."""

from __future__ import annotations

import ast
from collections.abc import Callable

from auditor.static.names import Names, assigned, statements, used
from auditor.static.wholes import is_constant

Reduced = Callable[[ast.AST, Names], set[str]]  # variables whose rows a call reduces


class Selections:
    """Which plain functions of a module return something that reductions over the rows of their arguments enter.

    Whether that picks columns is seen where the result is used.
    """

    def __init__(self, tree: ast.Module, names: Names, reduced: Reduced) -> None:
        self._functions: dict[str, tuple[list[str], frozenset[str]]] = {}
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.decorator_list:
                positions = [each.arg for each in (*node.args.posonlyargs, *node.args.args)]
                self._functions[node.name] = positions, _entering(node, names, reduced)

    def rows_of(self, call: ast.Call) -> frozenset[str]:
        """Variables whose rows such a call reduces, each handed over as a whole; empty where one of them is not."""
        if not isinstance(call.func, ast.Name):
            return frozenset()
        positions, entering = self._functions.get(call.func.id, ([], frozenset()))
        given: dict[str, ast.expr] = dict(zip(positions, call.args, strict=False))
        given.update({word.arg: word.value for word in call.keywords if word.arg})
        rows = [given[name] for name in entering if name in given]
        if not all(isinstance(each, ast.Name) for each in rows):
            return frozenset()
        # Names of constants are settings, how many columns to keep for example.
        return frozenset(each.id for each in rows if isinstance(each, ast.Name) and not is_constant(each.id))


def _entering(function: ast.FunctionDef, names: Names, reduced: Reduced) -> frozenset[str]:
    """Follows two sets per variable: the parameters that it was made from, and those whose rows were reduced."""
    made = {each.arg: {each.arg} for each in (*function.args.posonlyargs, *function.args.args)}
    statistic: dict[str, set[str]] = {}

    def read(value: ast.expr) -> tuple[set[str], set[str]]:
        origins = {origin for name in used(value) for origin in made.get(name, ())}
        over = {origin for name in used(value) for origin in statistic.get(name, ())}
        for call in ast.walk(value):
            if any(name in made for name in reduced(call, names)):
                over |= {origin for name in used(call) for origin in made.get(name, ())}
        return origins, over

    returned: set[str] = set()
    for statement in statements(function.body):
        if isinstance(statement, ast.Return) and statement.value is not None:
            returned |= read(statement.value)[1]
        if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign) and statement.value is not None:
            origins, over = _pairwise(statement, read)
            for name in assigned(statement):
                made[name], statistic[name] = origins.get(name, set()), over.get(name, set())
    return frozenset(returned)


def _pairwise(
    statement: ast.Assign | ast.AnnAssign | ast.AugAssign, read: Callable[[ast.expr], tuple[set[str], set[str]]]
) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """What each bound name is made from; `a, b = x, y` is two bindings."""
    value, bound = statement.value, assigned(statement)
    assert value is not None
    values = value.elts if isinstance(value, ast.Tuple) and len(value.elts) == len(bound) > 1 else [value] * len(bound)
    read_each = [read(each) for each in values]
    origins = {name: each[0] for name, each in zip(bound, read_each, strict=True)}
    over = {name: each[1] for name, each in zip(bound, read_each, strict=True)}
    return origins, over
