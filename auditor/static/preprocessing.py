"""Statistics of all rows that transform rows which are split afterwards.

A small flow analysis of one scope at a time, statement by statement: which variable holds a statistic over rows, which
holds rows that were transformed by a statistic of themselves, and which of those are split.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from auditor.evidence import Location, WholeFit
from auditor.static.appliedparts import Applied, Appliers
from auditor.static.attributes import constructor, with_plain_attributes
from auditor.static.names import Names, assigned, scopes, statements, used
from auditor.static.partition import Partition
from auditor.static.reductions import (
    bindings,
    calls,
    expressions,
    is_reduction,
    is_splitter,
    is_target,
    operands,
    reduced,
    runs_over,
)
from auditor.static.selections import Selections
from auditor.static.tables import Tables
from auditor.static.wholes import all_rows, bounds_in, keeps_rows, part_of, takes_a_part, unsliced

FITS = ("fit", "fit_transform", "partial_fit")
SPLITS = ("train_test_split", "random_split")
SCALERS = ("Scaler", "Imputer", "PCA", "Encoder", "KBest", "Percentile", "Transformer", "Normalizer", "Model", "RFE",
           "SVD")  # fmt: skip
UNSUPERVISED = ("Scaler", "Imputer", "PCA", "Normalizer", "SVD")
READ_ONLY = ("unique", "len", "range", "set", "sorted", "shape", "nunique", "max")  # no rows come out of these


@dataclass(frozen=True)
class _Statistic:
    """Computed over all rows of `data`."""

    what: str
    data: frozenset[str]
    supervised: bool
    line: int


@dataclass
class _State:
    statistics: dict[str, _Statistic] = field(default_factory=dict)
    transformed: dict[str, _Statistic] = field(default_factory=dict)
    # rows derived from others by way of plain assignment: a later name of the same rows
    origin: dict[str, frozenset[str]] = field(default_factory=dict)
    # columns that a function of the user's own picked
    picks: dict[str, _Statistic] = field(default_factory=dict)
    scalers: dict[str, str] = field(default_factory=dict)  # variable -> its class
    slices: dict[str, list[tuple[ast.expr, int]]] = field(default_factory=dict)  # variable -> parts taken, with lines
    partition: Partition = field(default_factory=Partition)
    scalars: set[str] = field(default_factory=set)  # variables that hold a mean, of whatever rows
    single: set[str] = field(default_factory=set)  # variables of loops: one row, or one batch


def whole_fits(path: str, tree: ast.Module, names: Names) -> Iterator[WholeFit]:
    tree = with_plain_attributes(tree)
    seen: set[Location] = set()
    functions = Functions(tree, names, Selections(tree, names, reduced), Tables(tree, names, operands))
    classes = [owner for owner in ast.walk(tree) if isinstance(owner, ast.ClassDef)]
    for body in [*scopes(tree), *map(constructor, classes)]:
        for found in _Scope(path, functions).read(body):
            if found.location not in seen:
                seen.add(found.location)
                yield found


@dataclass(frozen=True)
class _Answer:
    """What one of the values that a function of the user's own returns is: rows, transformed by a statistic of all."""

    statistic: _Statistic
    positions: tuple[str, ...]  # the parameters of the function


class Functions:
    """The plain functions and classes of a module, and which of them hand out rows that their targets transformed.

    A mean and a scale of all rows are left out: data that are made up are often brought to one scale where they are
    made, and what that gives away is little.
    """

    def __init__(self, tree: ast.Module, names: Names, selections: Selections, tables: Tables) -> None:
        self.names, self.selections, self.tables = names, selections, tables
        self.appliers = Appliers(tree)
        self._answers: dict[str, dict[int, _Answer]] = {}
        for node in tree.body:  # each by means of those above it
            if isinstance(node, ast.FunctionDef) and not node.decorator_list:
                self._learn(node.name, node.args, node.body)
            elif isinstance(node, ast.ClassDef):
                made = next((each for each in node.body if getattr(each, "name", "") == "__init__"), None)
                if isinstance(made, ast.FunctionDef):
                    self._learn(node.name, made.args, constructor(node), of_class=True)

    def _learn(self, name: str, arguments: ast.arguments, body: list[ast.stmt], of_class: bool = False) -> None:
        positions = tuple(each.arg for each in (*arguments.posonlyargs, *arguments.args))[of_class:]
        found = _Scope("", self).answers(body, of_class)
        self._answers[name] = {key: _Answer(each, positions) for key, each in found.items() if each.supervised}

    def answered(self, value: ast.expr, position: int = 0) -> _Statistic | None:
        """The statistic that has transformed the rows that such a call returns; None where it was given a part."""
        if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Name):
            return None
        answer = self._answers.get(value.func.id, {}).get(position)
        if answer is None:
            return None
        given: dict[str, ast.expr] = dict(zip(answer.positions, value.args, strict=False))
        given.update({word.arg: word.value for word in value.keywords if word.arg})
        rows = [given[name] for name in sorted(answer.statistic.data) if name in given]
        if any(takes_a_part(each) for each in rows):
            return None
        data = {name for each in rows for name in all_rows(each)} or {value.func.id}
        return _Statistic(value.func.id, frozenset(data), True, value.lineno)


class _Scope:
    def __init__(self, path: str, functions: Functions) -> None:
        self._path = path
        self._functions = functions
        self._names = functions.names
        self._selections = functions.selections
        self._tables = functions.tables
        self._state = _State()
        self._applied = Applied[_Statistic](self._state.partition, functions.appliers, self._rows)
        self._found: dict[int, WholeFit] = {}

    def read(self, body: list[ast.stmt]) -> list[WholeFit]:
        for statement in statements(body):
            self._step(statement)
        return list(self._found.values())

    def answers(self, body: list[ast.stmt], of_class: bool) -> dict[int, _Statistic]:
        """By position among what is returned, the statistic that transformed it; of a class, by any attribute."""
        found: dict[int, _Statistic] = {}
        for statement in statements(body):
            if isinstance(statement, ast.Return) and statement.value is not None and not of_class:
                values = statement.value.elts if isinstance(statement.value, ast.Tuple) else [statement.value]
                for position, value in enumerate(values):
                    self._bind(["<returned>"], value, self._whole(value), only_read=False)
                    if "<returned>" in self._state.transformed:
                        found[position] = self._state.transformed["<returned>"]
            else:
                self._step(statement)
        kept = [each for name, each in self._state.transformed.items() if name.startswith("self.") and each.supervised]
        return {0: kept[0]} if of_class and kept else found

    def _step(self, statement: ast.stmt) -> None:
        for expression in expressions(statement):
            self._splits(expression)
            self._fits(expression)
        if isinstance(statement, ast.For | ast.AsyncFor):
            self._state.single |= set(assigned(statement))
        self._assign(statement)

    # ------------------------------------------------------------------------------------------------------- statistics

    def _fits(self, expression: ast.expr) -> None:
        """`scaler.fit(x)`: from now on, the scaler is a statistic of x."""
        for call in calls(expression):
            statistic = self._fit(call)
            owner = call.func.value if isinstance(call.func, ast.Attribute) else None
            if statistic is not None and isinstance(owner, ast.Name):
                self._state.statistics[owner.id] = statistic

    def _fit(self, node: ast.AST) -> _Statistic | None:
        """What `scaler.fit(x)` or `Scaler().fit_transform(x)` learns from all rows of x."""
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in FITS:
            return None
        owner, rows = node.func.value, node.args[0] if node.args else None
        name = self._names.dotted(owner.func if isinstance(owner, ast.Call) else owner).rpartition(".")[2]
        kind = self._state.scalers.get(name, name)
        known = isinstance(owner, ast.Call) or name in self._state.scalers
        if not isinstance(rows, ast.Name) or not known or not kind.endswith(SCALERS):
            return None
        supervised = len(node.args) > 1 and not kind.endswith(UNSUPERVISED)
        return _Statistic(f"{kind}.{node.func.attr}", self._rows(rows.id), supervised, node.lineno)

    def _statistic(self, value: ast.expr) -> _Statistic | None:
        """What the expression computes over rows, itself or by way of variables: the first one in the source, and the
        rows of all."""
        nodes = [node for node in ast.walk(value) if isinstance(node, ast.Call)]
        ordered = sorted(nodes, key=lambda node: (node.end_lineno or 0, node.end_col_offset or 0))
        single = self._state.single | runs_over(value)
        found = [each for each in (self._of_call(node, single) for node in ordered) if each is not None]
        found += [self._state.statistics[name] for name in sorted(used(value)) if name in self._state.statistics]
        if not found:
            return None
        data = frozenset[str]().union(*(each.data for each in found))
        return replace(found[0], data=data, supervised=any(each.supervised for each in found))

    def _of_call(self, node: ast.Call, single: set[str]) -> _Statistic | None:
        fitted = self._fit(node)
        if fitted is not None:
            return fitted
        table = self._tables.rows_of(node, all_rows, self._state.scalars)
        over = {name for name in table or reduced(node, self._names) if not self._names.is_module(name)}
        if not over - single:
            return None
        data = frozenset(row for name in over for row in self._rows(name))
        # Of several variables, a table by category for example, one is what the others are to tell.
        supervised = len(over) > 1 and (bool(table) or any(is_target(name) for name in over))
        return _Statistic(ast.unparse(node.func)[:40], data, supervised, node.lineno)

    def _pick(self, value: ast.expr) -> _Statistic | None:
        """`pick(x, y)`, a function of the user's own that reduces over the rows that it is given; also by way of a
        variable: `picked[:9]`."""
        for call in calls(value):
            rows = self._selections.rows_of(call)
            if rows:
                data = frozenset(row for name in rows for row in self._rows(name))
                return _Statistic(ast.unparse(call.func), data, len(data) > 1, call.lineno)
        names = {name for name in used(value) - bounds_in(value) if not self._names.is_module(name)}
        return self._state.picks[min(names)] if names and names <= self._state.picks.keys() else None

    def _picked(self, value: ast.expr) -> _Statistic | None:
        """`x[:, picked]` anywhere in the expression, where the same x was looked at to pick them."""
        for node in ast.walk(value):
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple) and keeps_rows(node.slice):
                statistic = self._pick(node.slice.elts[-1])
                data = {row for name in unsliced(node.value) for row in self._rows(name)}
                if statistic is not None and statistic.data & data:
                    return statistic
        return None

    def _reduces(self, node: ast.AST) -> bool:
        """Nothing is left of the rows that it is given. Of a groupby, rows may come out again."""
        plain = bool(operands(node, self._names)) and getattr(getattr(node, "func", None), "attr", "") != "groupby"
        called = node.func if isinstance(node, ast.Call) else None
        if (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")) in READ_ONLY:
            return True
        return plain or bool(self._tables.rows_of(node, all_rows, self._state.scalars))

    def _rows(self, name: str) -> frozenset[str]:
        return self._state.origin.get(name, frozenset({name}))

    # ------------------------------------------------------------------------------------------------------ assignments

    def _assign(self, statement: ast.stmt) -> None:
        for names, value in bindings(statement):
            if not is_reduction(value, self._names):
                for statistic, part, line in self._applied.read(value, self._state.statistics, self._state.picks):
                    self._note(statistic, part.rows, part.text, line)
            self._applied.assign(names, value)
            in_place = isinstance(statement, ast.AugAssign)
            self._state.partition.assign(names, value)
            made_of_single = isinstance(statement, ast.For) or used(value) & self._state.single
            whole = self._whole(value) | (set(names) if in_place else set())
            if len(names) == 1 and "[" in names[0]:
                self._bind_item(statement, value, whole)
            elif len(names) > 1 and isinstance(value, ast.Call):
                self._unpack(names, value)
            else:
                self._bind(names, value, whole, only_read=not in_place and is_reduction(value, self._names))
            scalar = self._tables.is_scalar(value)
            self._state.scalars = (self._state.scalars | {*names}) if scalar else (self._state.scalars - {*names})
            self._state.single -= set() if made_of_single else set(names)

    def _whole(self, value: ast.expr) -> set[str]:
        """The variables that the value reads all rows of."""
        read = {name for name in unsliced(value, self._reduces) if not self._names.is_module(name)}
        return (read | self._looked_up(value)) - self._state.statistics.keys()

    def _bind_item(self, statement: ast.stmt, value: ast.expr, whole: set[str]) -> None:
        """`rates[c] = y[shop == c].mean()` and `x[:, 3] = rates[shop]`"""
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if not isinstance(target, ast.Subscript) or not isinstance(target.value, ast.Name):
            return
        name, state = target.value.id, self._state
        statistic = self._statistic(value)
        if statistic is None:
            return
        reads = frozenset(row for each in whole for row in self._rows(each))
        if keeps_rows(target.slice) and statistic.data & reads:
            state.transformed[name] = statistic
            state.origin[name] = self._rows(name) | reads
        elif isinstance(target.slice, ast.Name) and not statistic.data & (reads - state.single):
            state.statistics[name] = statistic

    def _unpack(self, names: list[str], value: ast.Call) -> None:
        """`x, y = load()` and `mean, std = scale(x)`"""
        self._bind(names, value, set(), only_read=False)
        statistic = self._of_call(value, self._state.single) if not self._is_split(value) else None
        if statistic is not None:
            self._state.statistics |= dict.fromkeys(names, statistic)
        for position, name in enumerate(names):
            answered = self._functions.answered(value, position)
            if answered is not None:
                self._state.transformed[name], self._state.origin[name] = answered, answered.data

    def _looked_up(self, value: ast.expr) -> set[str]:
        """Variables whose rows say which entries of a statistic are taken: `rates[shop]`."""
        nodes = [
            node for node in ast.walk(value) if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Name)
        ]
        known = self._state.statistics.keys()
        return {ast.unparse(node.slice) for node in nodes if used(node.value) & known and unsliced(node.value) <= known}

    def _bind(self, names: list[str], value: ast.expr, whole: set[str], only_read: bool) -> None:
        """`whole`: the variables that the value reads all rows of; `only_read`: it transforms none of them."""
        state = self._state
        statistic = self._picked(value) or self._statistic(value)
        pick = self._pick(value)
        reads = frozenset(row for name in whole for row in self._rows(name))
        known = next((state.transformed[name] for name in sorted(whole) if name in state.transformed), None)
        kind = self._names.dotted(value.func).rpartition(".")[2] if isinstance(value, ast.Call) else ""
        for name in names:
            for table in (state.statistics, state.picks, state.transformed, state.scalers, state.origin, state.slices):
                table.pop(name, None)
        if len(names) != 1 or self._is_split(value):
            return
        [name] = names
        answered = self._functions.answered(value)
        if answered is not None:
            state.transformed[name], state.origin[name] = answered, answered.data | reads
            return
        if pick is not None:
            state.picks[name] = pick
        if kind[:1].isupper() and kind.endswith(SCALERS):
            state.scalers[name] = kind
        elif statistic is not None and statistic.data & reads and not only_read:
            state.transformed[name], state.origin[name] = statistic, reads
        elif statistic is not None:
            state.statistics[name] = statistic
        elif not takes_a_part(value) and known is not None:
            state.transformed[name], state.origin[name] = known, reads
        elif not takes_a_part(value) and len(whole) == 1:
            state.origin[name] = reads

    # ----------------------------------------------------------------------------------------------------------- splits

    def _is_split(self, node: ast.expr) -> bool:
        if not isinstance(node, ast.Call):
            return False
        name = self._names.dotted(node.func).rpartition(".")[2]
        by_splitter = (
            isinstance(node.func, ast.Attribute) and node.func.attr == "split" and is_splitter(node.func.value)
        )
        return name in SPLITS or by_splitter

    def _splits(self, expression: ast.expr) -> None:
        for call in calls(expression):
            if self._is_split(call):
                for argument in call.args:
                    self._report(used(argument), ast.unparse(call.func)[:40], call.lineno)
            if self._names.dotted(call.func).rpartition(".")[2] == "Subset" and len(call.args) == 2:
                rows, index = call.args
                for name in used(rows):
                    self._part(name, index, f"Subset({name}, {ast.unparse(index)[:30]})", call.lineno)
        for node in ast.walk(expression):
            if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and isinstance(node.ctx, ast.Load):
                self._slice(node.value.id, node)

    def _slice(self, name: str, node: ast.Subscript) -> None:
        """`x[:n]` and `x[n:]`, or `x[train]` and `x[test]`: two complementary parts of the same rows are a split."""
        if part_of(node.slice):
            self._part(name, node.slice, f"{name}[{ast.unparse(node.slice)[:30]}]", node.lineno)

    def _part(self, name: str, index: ast.expr, text: str, line: int) -> None:
        if name not in self._state.transformed:
            return
        before = self._state.slices.setdefault(name, [])
        if any(self._state.partition.complementary(index, other) for other, _ in before):
            self._report({name}, text, min(line for _, line in before))
        before.append((index, line))

    def _report(self, names: set[str], split: str, line: int) -> None:
        for name in sorted(names):
            statistic = self._state.transformed.get(name)
            if statistic is not None:
                self._note(statistic, name, split, line)

    def _note(self, statistic: _Statistic, name: str, split: str, line: int) -> None:
        if statistic.line in self._found:
            return
        self._found[statistic.line] = WholeFit(
            what=statistic.what,
            data=", ".join(sorted(statistic.data)) or name,
            supervised=statistic.supervised,
            location=Location(file=self._path, line=statistic.line),
            split=split,
            split_location=Location(file=self._path, line=line),
        )
