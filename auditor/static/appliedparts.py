"""Parts of rows, and what is done to them by a statistic of all rows: `(x[train] - mean) / std`, `x[train][:, kept]`.

The split may come before the transformation; the statistic has seen the held-out rows all the same.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from auditor.static.names import SCOPES, assigned, statements, used
from auditor.static.partition import Partition
from auditor.static.reductions import calls
from auditor.static.wholes import keeps_rows, part_of

SPLITS = ("train_test_split",)
TRANSFORMS = ("transform", "apply", "encode")


@dataclass(frozen=True)
class Part:
    """Rows taken of one variable: by an index, or as one of the pieces of a split."""

    rows: str
    index: ast.expr | None = None
    piece: tuple[int, int] = (0, 0)  # (line of the split, number)
    text: str = ""

    def complements(self, other: Part, partition: Partition) -> bool:
        if self.index is None or other.index is None:
            same = self.index is other.index and self.piece[0] == other.piece[0]
            return same and self.piece[1] != other.piece[1]
        return partition.complementary(self.index, other.index)


@dataclass(frozen=True)
class Use:
    """`name` acts on a part: picks its columns, is computed with it, or is looked up by it."""

    name: str
    how: str  # "columns", "computed" or "looked up"
    part: Part


@dataclass
class Parts:
    """Follows the variables that hold a part of the rows of another one."""

    held: dict[str, Part] = field(default_factory=dict)

    def assign(self, names: list[str], value: ast.expr) -> None:
        found = self.of(value) if len(names) == 1 else None
        for name in names:
            self.held.pop(name, None)
        if found is not None:
            self.held[names[0]] = found
        elif isinstance(value, ast.Call) and _last(value) in SPLITS and len(names) == 2 * len(value.args):
            for number, name in enumerate(names):
                rows = value.args[number // 2]
                if isinstance(rows, ast.Name):
                    self.held[name] = Part(rows.id, piece=(value.lineno, number % 2), text=name)

    def of(self, value: ast.expr) -> Part | None:
        """The part that an expression is: `x[train]`, `x_train`, `x[train].astype(float)`, `x[train][:, :3]`."""
        while not isinstance(value, ast.Name):
            if isinstance(value, ast.Subscript) and keeps_rows(value.slice):
                value = value.value
            elif isinstance(value, ast.Subscript) and isinstance(value.value, ast.Name):
                taken = part_of(value.slice) and value.value.id not in self.held
                return Part(value.value.id, value.slice, text=ast.unparse(value)[:40]) if taken else None
            elif isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and not value.args:
                value = value.func.value
            else:
                return None
        return self.held.get(value.id)


def uses(value: ast.expr, part_of_value: Callable[[ast.expr], Part | None]) -> Iterator[Use]:
    """Whatever acts on a part in an expression, by name."""
    for node in ast.walk(value):
        if isinstance(node, ast.Subscript):
            if isinstance(node.slice, ast.Tuple) and keeps_rows(node.slice):
                part = part_of_value(node.value)
                yield from _each(used(node.slice.elts[-1]), "columns", part)
            elif (part := part_of_value(node.slice)) is not None:
                yield from _each(used(node.value), "looked up", part)
        elif isinstance(node, ast.BinOp):
            for one, other in ((node.left, node.right), (node.right, node.left)):
                yield from _each(used(other), "computed", part_of_value(_inner(one)))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            fitted = node.func.value if node.func.attr in TRANSFORMS else None
            if isinstance(fitted, ast.Name):
                yield from _each({fitted.id}, "computed", part_of_value(node.args[0]))


def _each(names: set[str], how: str, part: Part | None) -> Iterator[Use]:
    if part is not None:
        yield from (Use(name, how, part) for name in sorted(names))


def _inner(value: ast.expr) -> ast.expr:
    """`x` of `(x - a) / b`: what all of the arithmetic is done to."""
    while isinstance(value, ast.BinOp):
        value = value.left
    return value


class Appliers:
    """Functions and classes of the user's own that do so to a parameter, by a variable from outside of them."""

    def __init__(self, tree: ast.Module) -> None:
        self._known: dict[str, tuple[list[str], list[Use]]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                self._learn(node.name, node, 0)
            elif isinstance(node, ast.ClassDef):
                made = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
                for function in made:
                    self._learn(node.name, function, 1)

    def _learn(self, name: str, function: ast.FunctionDef, skipped: int) -> None:
        positions = [each.arg for each in (*function.args.posonlyargs, *function.args.args)][skipped:]
        inside = {each for statement in statements(function.body) for each in assigned(statement)} | set(positions)

        def parameter(value: ast.expr) -> Part | None:
            return Part(value.id) if isinstance(value, ast.Name) and value.id in positions else None

        found = [
            use
            for statement in statements(function.body)
            if not isinstance(statement, SCOPES)
            for child in ast.iter_child_nodes(statement)
            if isinstance(child, ast.expr)
            for use in uses(child, parameter)
            if use.name not in inside
        ]
        if found:
            self._known[name] = positions, found

    def uses(self, value: ast.expr, part_of_value: Callable[[ast.expr], Part | None]) -> Iterator[Use]:
        """What calls of such functions do to the parts that they are given."""
        for call in calls(value):
            positions, found = self._known.get(getattr(call.func, "id", ""), ([], []))
            given: dict[str, ast.expr] = dict(zip(positions, call.args, strict=False))
            given.update({word.arg: word.value for word in call.keywords if word.arg})
            for use in found:
                part = part_of_value(given[use.part.rows]) if use.part.rows in given else None
                if part is not None:
                    yield Use(use.name, use.how, part)


class Statistic(Protocol):
    """Of all rows of `data`."""

    @property
    def data(self) -> frozenset[str]: ...
    @property
    def supervised(self) -> bool: ...
    @property
    def line(self) -> int: ...


S = TypeVar("S", bound=Statistic)


class Applied(Generic[S]):
    """Which statistics were used on which parts of the rows that they are of, statement by statement."""

    def __init__(self, partition: Partition, appliers: Appliers, rows_of: Callable[[str], frozenset[str]]) -> None:
        self._partition = partition
        self._appliers = appliers
        self._rows_of = rows_of
        self._parts = Parts()
        self._renewed: dict[str, int] = {}  # variable -> line where it was bound to other rows
        self._before: dict[int, list[tuple[Part, int]]] = {}  # line of a statistic -> parts, with lines

    def assign(self, names: list[str], value: ast.expr) -> None:
        self._parts.assign(names, value)
        related = {row for name in used(value) for row in self._rows_of(name)}
        self._renewed |= {name: value.lineno for name in names if name not in related}

    def read(self, value: ast.expr, statistics: dict[str, S], picks: dict[str, S]) -> Iterator[tuple[S, Part, int]]:
        """(statistic, an earlier part, its line), where the value has it act on the part that complements that one."""
        acting = []
        for use in (*uses(value, self._parts.of), *self._appliers.uses(value, self._parts.of)):
            statistic = (picks if use.how == "columns" else statistics).get(use.name)
            if statistic is not None and self._concerns(statistic, use):
                acting.append((statistic, use.part))
        for statistic, part in sorted(acting, key=lambda each: each[0].line):
            before = self._before.setdefault(statistic.line, [])
            first = next((its for its in before if part.complements(its[0], self._partition)), None)
            before.append((part, value.lineno))
            if first is not None:
                yield statistic, *first
                return  # a mean and a scale are one finding

    def _concerns(self, statistic: S, use: Use) -> bool:
        rows = use.part.rows
        if not statistic.data & self._rows_of(rows) or self._renewed.get(rows, 0) > statistic.line:
            return False
        return use.how != "looked up" or statistic.supervised  # not the weights of classes, for example


def _last(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
