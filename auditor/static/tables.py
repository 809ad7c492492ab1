"""Functions of the user's own that return statistics of the rows they are given: means, rates by category, scales.

What such a function returns holds no rows any more: all that is read of them goes through reductions.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Set
from dataclasses import dataclass, field

from auditor.static.names import Names, assigned, statements, used

Operands = Callable[[ast.AST, Names], list[ast.expr]]  # what a call reduces over its rows; [] for other nodes
SCALARS = ("mean", "median", "sum", "average", "nanmean")
IN_PLACE = ("index_add_", "scatter_add_", "scatter_reduce_")


@dataclass
class _Made:
    """What one variable of a function is made of, by parameters."""

    rows: set[str] = field(default_factory=set)  # row by row
    over: set[str] = field(default_factory=set)  # statistics of their rows
    chosen: set[str] = field(default_factory=set)  # which say which rows: `label[rows]`

    def __or__(self, other: _Made) -> _Made:
        return _Made(self.rows | other.rows, self.over | other.over, self.chosen | other.chosen)


class Tables:
    """The plain functions of a module that return statistics."""

    def __init__(self, tree: ast.Module, names: Names, operands: Operands) -> None:
        self._names, self._operands = names, operands
        self._functions: dict[str, tuple[list[str], _Made]] = {}
        self._shared = {name for statement in statements(tree.body) for name in assigned(statement)}
        self._whole_orders = _whole_orders(tree)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.decorator_list:
                made = _Reading(node, names, operands, self._shared).returned()
                if made.over - made.rows:
                    positions = [each.arg for each in (*node.args.posonlyargs, *node.args.args)]
                    self._functions[node.name] = positions, made

    def rows_of(
        self, call: ast.AST, whole: Callable[[ast.expr], set[str]], scalars: Set[str] = frozenset()
    ) -> set[str]:
        """Variables whose rows such a call reduces, all of them; empty where it is given a part of the rows.
        `whole`: the variables that an expression reads as a whole, none where it takes a part. `scalars`: variables
        that hold a statistic, of any rows: a prior, for example."""
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            return set()
        positions, made = self._functions.get(call.func.id, ([], _Made()))
        given: dict[str, ast.expr] = dict(zip(positions, call.args, strict=False))
        given.update({word.arg: word.value for word in call.keywords if word.arg})
        for name in (made.rows | made.over | made.chosen) - {*positions}:  # variables of the module
            given.setdefault(name, ast.Name(id=name, ctx=ast.Load()))
        if any(not self._says_all(given[name]) for name in made.chosen if name in given):
            return set()
        beside = [given[name] for name in made.rows if name in given]
        if made.over & made.rows or any(not self._is_scalar(value, scalars) for value in beside):
            return set()  # rows come out again
        rows = [whole(given[name]) for name in made.over - made.chosen if name in given]
        return set().union(*rows) if all(rows) else set()

    def is_scalar(self, value: ast.expr) -> bool:
        """`y[train].mean()`"""
        name = getattr(value.func, "attr", "") if isinstance(value, ast.Call) else ""
        return name in SCALARS and bool(self._operands(value, self._names))

    def _is_scalar(self, value: ast.expr, scalars: Set[str]) -> bool:
        return self.is_scalar(value) or _is_setting(value) or (isinstance(value, ast.Name) and value.id in scalars)

    def _says_all(self, rows: ast.expr) -> bool:
        return _says_all(rows) or (isinstance(rows, ast.Name) and rows.id in self._whole_orders)


class _Reading:
    """One function, statement by statement."""

    def __init__(self, function: ast.FunctionDef, names: Names, operands: Operands, shared: set[str]) -> None:
        self._function = function
        self._names = names
        self._operands = operands
        parameters = [each.arg for each in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
        own = {name for statement in statements(function.body) for name in assigned(statement)}
        self._made = {name: _Made(rows={name}) for name in {*parameters, *(shared - own)}}

    def returned(self) -> _Made:
        result = _Made()
        for statement in statements(self._function.body):
            if isinstance(statement, ast.Return) and statement.value is not None:
                result = result | self._read(statement.value)
            elif isinstance(statement, ast.For | ast.AsyncFor):
                self._bind(assigned(statement), self._read(statement.iter), add=False)
            elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
                self._in_place(statement.value)
            elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign) and statement.value is not None:
                self._assign(statement)
        return result

    def _assign(self, statement: ast.Assign | ast.AnnAssign | ast.AugAssign) -> None:
        value, bound = statement.value, assigned(statement)
        assert value is not None
        values = value.elts if isinstance(value, ast.Tuple) and len(value.elts) == len(bound) > 1 else []
        read = [self._read(each) for each in values or [value] * len(bound)]
        for name, made in zip(bound, read, strict=True):
            self._bind([name], made, add=isinstance(statement, ast.AugAssign))

    def _bind(self, names: list[str], made: _Made, add: bool) -> None:
        for name in names:
            base = name.partition("[")[0].partition(".")[0]  # `table[k] = ...` adds to the table
            before = self._made.get(base, _Made()) if add or base != name else _Made()
            self._made[base] = before | made

    def _in_place(self, call: ast.Call) -> None:
        """`sums.index_add_(0, shop, y)`"""
        if (
            isinstance(call.func, ast.Attribute)
            and call.func.attr in IN_PLACE
            and isinstance(call.func.value, ast.Name)
        ):
            self._bind([call.func.value.id], self._read(call), add=True)

    def _read(self, value: ast.AST) -> _Made:
        operands = self._operands(value, self._names)
        if operands:
            made = _Made()
            for operand in operands:
                selectors = _indices(operand) & self._made.keys()
                inner = _Made()
                for name in used(operand):
                    inner = inner | self._made.get(name, _Made())
                made = made | _Made(over=inner.rows | inner.over, chosen=inner.chosen | selectors)
            return made
        if isinstance(value, ast.Name):
            return self._made.get(value.id, _Made())
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "len":
            return _Made()
        if isinstance(value, ast.Attribute) and value.attr in ("shape", "dtype", "device", "columns"):
            return _Made()
        made = _Made()
        for child in ast.iter_child_nodes(value):
            made = made | self._read(child)
        return made


def _indices(operand: ast.expr) -> set[str]:
    """Names that pick rows by themselves: `rows` of `label[rows]`."""
    nodes = (node for node in ast.walk(operand) if isinstance(node, ast.Subscript))
    return {node.slice.id for node in nodes if isinstance(node.slice, ast.Name)}


def _is_setting(value: ast.expr) -> bool:
    """A constant, the name of one, or an option: `2.0`, `WEIGHT`, `args.weight`."""
    if isinstance(value, ast.Attribute):
        return isinstance(value.value, ast.Name)
    return isinstance(value, ast.Constant) or (isinstance(value, ast.Name) and value.id.isupper())


def _whole_orders(tree: ast.Module) -> set[str]:
    """Variables that are nothing but all rows in some order: `order = rng.permutation(len(y))`."""
    found: dict[str, bool] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            call = node.value
            name = getattr(getattr(call, "func", None), "attr", "") if isinstance(call, ast.Call) else ""
            for bound in assigned(node):
                found[bound] = name in ("permutation", "randperm") and found.get(bound, True)
    return {name for name, whole in found.items() if whole}


def _says_all(rows: ast.expr) -> bool:
    """`np.arange(len(y))`, `range(n)` of a length, `slice(None)`, `...`"""
    if isinstance(rows, ast.Constant):
        return rows.value is None or rows.value is Ellipsis
    if not isinstance(rows, ast.Call) or len(rows.args) != 1 or rows.keywords:
        return False
    name = rows.func.attr if isinstance(rows.func, ast.Attribute) else getattr(rows.func, "id", "")
    [argument] = rows.args
    if name == "slice":
        return isinstance(argument, ast.Constant) and argument.value is None
    counts = isinstance(argument, ast.Call) and getattr(argument.func, "id", "") == "len"
    shape = isinstance(argument, ast.Subscript) and getattr(argument.value, "attr", "") == "shape"
    return name in ("arange", "range") and (counts or shape)
