"""Statistics of all rows that transform rows which are split afterwards.

A small flow analysis of one scope at a time, statement by statement: which variable holds a statistic over rows, which
holds rows that were transformed by a statistic of themselves, and which of those are split.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from auditor.evidence import Location, WholeFit
from auditor.static.names import Names, assigned, scopes, statements, used
from auditor.static.selections import Selections
from auditor.static.tables import Tables
from auditor.static.wholes import all_rows, keeps_rows, part_of, takes_a_part, unsliced

# Reductions over rows. A largest value alone is left out: dividing by it is a matter of units.
REDUCTIONS = frozenset({"mean", "std", "var", "median", "quantile", "percentile", "nanmean", "nanstd", "sum", "cov",
                        "corrcoef", "svd", "pca_lowrank", "std_mean", "var_mean", "average", "groupby"})  # fmt: skip
# Sums by category: the first operand says which one a row belongs to.
COUNTED = frozenset({"bincount", "index_add", "index_add_", "scatter_add", "scatter_add_", "scatter_reduce"})
FITS = ("fit", "fit_transform", "partial_fit")
SPLITS = ("train_test_split", "random_split")
SPLITTERS = ("KFold", "StratifiedKFold", "GroupKFold", "ShuffleSplit", "StratifiedShuffleSplit", "TimeSeriesSplit")
TARGETS = ("y", "t", "target", "targets", "label", "labels", "ys")
SCALERS = (
    "Scaler",
    "Imputer",
    "PCA",
    "Encoder",
    "KBest",
    "Percentile",
    "Transformer",
    "Normalizer",
    "Model",
    "RFE",
    "SVD",
)
UNSUPERVISED = ("Scaler", "Imputer", "PCA", "Normalizer", "SVD")
TRAINING, HELD_OUT = ("train", "tr", "fit"), ("test", "val", "valid", "dev", "held", "te", "eval", "holdout")


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
    slices: dict[str, list[tuple[str, int]]] = field(default_factory=dict)  # variable -> parts taken of it, with lines


def whole_fits(path: str, tree: ast.Module, names: Names) -> Iterator[WholeFit]:
    selections, tables = Selections(tree, names, _reduced), Tables(tree, names, _operands)
    for body in scopes(tree):
        yield from _Scope(path, names, selections, tables).read(body)


class _Scope:
    def __init__(self, path: str, names: Names, selections: Selections, tables: Tables) -> None:
        self._path = path
        self._names = names
        self._selections = selections
        self._tables = tables
        self._state = _State()
        self._found: dict[int, WholeFit] = {}

    def read(self, body: list[ast.stmt]) -> list[WholeFit]:
        for statement in statements(body):
            for expression in _expressions(statement):
                self._splits(expression)
                self._fits(expression)
            self._assign(statement)
        return list(self._found.values())

    # ------------------------------------------------------------------------------------------------------- statistics

    def _fits(self, expression: ast.expr) -> None:
        """`scaler.fit(x)`: from now on, the scaler is a statistic of x."""
        for call in _calls(expression):
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
        """What the expression computes over rows, itself or by way of a variable; the first one in the source."""
        nodes = [node for node in ast.walk(value) if isinstance(node, ast.Call)]
        for node in sorted(nodes, key=lambda node: (node.end_lineno or 0, node.end_col_offset or 0)):
            fitted = self._fit(node)
            if fitted is not None:
                return fitted
            table = self._tables.rows_of(node, all_rows)
            reduced = {name for name in table or _reduced(node, self._names) if not self._names.is_module(name)}
            if reduced:
                data = frozenset(row for name in reduced for row in self._rows(name))
                # Of several variables, a table by category for example, one is what the others are to tell.
                supervised = len(reduced) > 1 and (bool(table) or any(_is_target(name) for name in reduced))
                return _Statistic(ast.unparse(node.func)[:40], data, supervised, node.lineno)
        known = sorted(name for name in used(value) if name in self._state.statistics)
        return self._state.statistics[known[0]] if known else None

    def _pick(self, value: ast.expr) -> _Statistic | None:
        """`pick(x, y)`, a function of the user's own that reduces over the rows that it is given; also by way of a
        variable: `picked[:9]`."""
        for call in _calls(value):
            rows = self._selections.rows_of(call)
            if rows:
                data = frozenset(row for name in rows for row in self._rows(name))
                return _Statistic(ast.unparse(call.func), data, len(data) > 1, call.lineno)
        names = {name for name in used(value) if not self._names.is_module(name)}
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
        plain = bool(_operands(node, self._names)) and getattr(getattr(node, "func", None), "attr", "") != "groupby"
        return plain or bool(self._tables.rows_of(node, all_rows))

    def _rows(self, name: str) -> frozenset[str]:
        return self._state.origin.get(name, frozenset({name}))

    # ------------------------------------------------------------------------------------------------------ assignments

    def _assign(self, statement: ast.stmt) -> None:
        for names, value in _bindings(statement):
            read = {name for name in unsliced(value, self._reduces) if not self._names.is_module(name)}
            rows = (read | self._looked_up(value)) - self._state.statistics.keys()
            rows |= set(names) if isinstance(statement, ast.AugAssign) else set()
            in_place = isinstance(statement, ast.AugAssign)
            self._bind(names, value, rows, only_read=not in_place and _is_reduction(value, self._names))

    def _looked_up(self, value: ast.expr) -> set[str]:
        """Variables whose rows say which entries of a statistic are taken: `rates[shop]`."""
        nodes = [
            node for node in ast.walk(value) if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Name)
        ]
        return {ast.unparse(node.slice) for node in nodes if ast.unparse(node.value) in self._state.statistics}

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
            isinstance(node.func, ast.Attribute) and node.func.attr == "split" and _is_splitter(node.func.value)
        )
        return name in SPLITS or by_splitter

    def _splits(self, expression: ast.expr) -> None:
        for call in _calls(expression):
            if self._is_split(call):
                for argument in call.args:
                    self._report(used(argument), ast.unparse(call.func)[:40], call.lineno)
        for node in ast.walk(expression):
            if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and isinstance(node.ctx, ast.Load):
                self._slice(node.value.id, node)

    def _slice(self, name: str, node: ast.Subscript) -> None:
        """`x[:n]` and `x[n:]`, or `x[train]` and `x[test]`: two complementary parts of the same rows are a split."""
        part = part_of(node.slice)
        if not part or name not in self._state.transformed:
            return
        before = self._state.slices.setdefault(name, [])
        if any(_complementary(part, other) for other, _ in before):
            self._report({name}, f"{name}[{ast.unparse(node.slice)[:30]}]", min(line for _, line in before))
        before.append((part, node.lineno))

    def _report(self, names: set[str], split: str, line: int) -> None:
        for name in sorted(names):
            statistic = self._state.transformed.get(name)
            if statistic is None or statistic.line in self._found:
                continue
            self._found[statistic.line] = WholeFit(
                what=statistic.what,
                data=", ".join(sorted(statistic.data)) or name,
                supervised=statistic.supervised,
                location=Location(file=self._path, line=statistic.line),
                split=split,
                split_location=Location(file=self._path, line=line),
            )


# --------------------------------------------------------------------------------------------------------- expressions


def _bindings(statement: ast.stmt) -> Iterator[tuple[list[str], ast.expr]]:
    """(bound names, value); `a, b = x, y` is two."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target, value = statement.targets[0], statement.value
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            for one, its in zip(target.elts, value.elts, strict=True):
                yield [ast.unparse(one)], its
            return
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign) and statement.value is not None:
        yield assigned(statement), statement.value


def _expressions(statement: ast.stmt) -> Iterator[ast.expr]:
    """Expressions of the statement itself, not those of statements in it."""
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.expr):
            yield child
        elif isinstance(child, ast.withitem):
            yield child.context_expr


def _calls(expression: ast.expr) -> Iterator[ast.Call]:
    return (node for node in ast.walk(expression) if isinstance(node, ast.Call))


def _reduced(node: ast.AST, names: Names) -> set[str]:
    """Variables whose rows a call reduces; empty when it reduces none, or each row by itself, or a part of them."""
    # A method of something that was called, of a loss for example, reduces no rows of a variable.
    rows = [unsliced(operand) for operand in _operands(node, names)]
    return set().union(*rows) if all(rows) else set()


def _operands(node: ast.AST, names: Names) -> list[ast.expr]:
    """What a call reduces over its rows: one expression, or the categories and the numbers that are summed by them."""
    if not isinstance(node, ast.Call):
        return []
    name = getattr(node.func, "attr", "")
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    function = names.dotted(owner) in ("torch", "numpy", "np", "torch.linalg", "numpy.linalg")
    given = [word.value for word in node.keywords if word.arg in ("weights", "index", "src", "source")]
    if name in COUNTED:
        first = [owner] if name == "bincount" and not function and owner is not None else []
        skipped = 0 if name == "bincount" else 1 + function  # the dimension, and what is added to
        return [*first, *node.args[skipped : skipped + 2], *given]
    if name not in REDUCTIONS:
        return []
    rows = node.args[0] if function and node.args else owner
    axis = _axis(node, 1 if function else 0)
    return [] if rows is None or (function and not node.args) or axis not in (None, 0) else [rows]


def _axis(call: ast.Call, position: int) -> int | None:
    """The reduced dimension that is nearest to the rows; None for all of them."""
    given = next((word.value for word in call.keywords if word.arg in ("dim", "axis")), None)
    if given is None and len(call.args) > position and getattr(call.func, "attr", "") not in ("quantile", "percentile"):
        given = call.args[position]
    try:
        value = ast.literal_eval(given) if given is not None else None
    except ValueError:
        return -1  # not known
    if isinstance(value, tuple | list):
        return 0 if 0 in value else -1
    return value if isinstance(value, int) else None


def _complementary(part: str, other: str) -> bool:
    if ":" in part and ":" in other:
        low, high = part.split(":", 1)
        before, after = other.split(":", 1)
        return bool(high and high == before) or bool(after and after == low)
    words = (part.lower(), other.lower())
    return any(_says(a, TRAINING) and _says(b, HELD_OUT) for a, b in (words, words[::-1]))


def _says(text: str, words: tuple[str, ...]) -> bool:
    pieces = text.replace("[", "_").replace("]", "_").replace(".", "_").split("_")
    return any(piece in words or piece.rstrip("s") in words for piece in pieces)


def _is_splitter(owner: ast.expr) -> bool:
    text = ast.unparse(owner)
    return any(name in text for name in SPLITTERS) or text.lower() in ("kf", "skf", "kfold", "splitter", "cv", "gkf")


def _is_target(name: str) -> bool:
    return name.lower() in TARGETS or name.lower().endswith(("_y", "labels", "targets", "target"))


def _is_reduction(value: ast.expr, names: Names) -> bool:
    """`mean = x.mean(0)` itself, also wrapped in another call (`x.std(0).clamp(min=1)`), or `Scaler().fit(x)`."""
    while isinstance(value, ast.Call):
        if _reduced(value, names) or getattr(value.func, "attr", "") == "fit":
            return True
        if not isinstance(value.func, ast.Attribute):
            return False
        value = value.func.value
    return False
