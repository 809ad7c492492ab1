"""Filters that reach into the future of a series, and windows of what comes out of them that are to forecast it.

A centred moving average is harmless where whole recordings are classified. Where a window of the smoothed series ends
before the value of the same series that it is to forecast, the last readings in it hold that value already.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from auditor.evidence import FutureFilter, Location
from auditor.static.attributes import constructor, with_plain_attributes
from auditor.static.linear import at_least, difference
from auditor.static.names import Names, assigned, scopes, statements, used
from auditor.static.reductions import bindings, calls, expressions, is_reduction
from auditor.static.wholes import is_constant, unsliced

BOTH_WAYS = {"filtfilt": 2, "sosfiltfilt": 1, "savgol_filter": 0, "gaussian_filter1d": 0, "uniform_filter1d": 0,
             "medfilt": 0, "wiener": 0}  # fmt: skip  # name -> the argument that is the series
MEANS = ("mean", "median", "sum", "average")
SAME = {"astype", "float", "float32", "double", "to", "tensor", "as_tensor", "from_numpy", "FloatTensor", "asarray",
        "array", "ascontiguousarray", "copy", "clone", "numpy", "Series", "to_numpy", "reshape", "squeeze", "unsqueeze",
        "mean", "std", "min", "max", "median"}  # fmt: skip  # what leaves a series what it is, or tells its unit
CONVOLUTIONS = ("convolve", "fftconvolve", "oaconvolve", "correlate")


@dataclass(frozen=True)
class _Window:
    """Windows of `inputs` that end before the place of `targets` that goes with them: names in one scope."""

    inputs: str
    targets: str
    line: int


@dataclass
class _Known:
    """Functions and classes of the module: of which parameter the first returns what reaches into its future, and what
    the others cut windows of."""

    smoothers: dict[str, tuple[int, str]] = field(default_factory=dict)
    cutters: dict[str, tuple[list[str], list[_Window]]] = field(default_factory=dict)


def future_filters(path: str, tree: ast.Module, names: Names) -> Iterator[FutureFilter]:
    tree = with_plain_attributes(tree)
    known = _Known()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            _learn_function(node, names, known)
        elif isinstance(node, ast.ClassDef):
            _learn_class(node, known)
    seen: set[tuple[int, int]] = set()
    for body in scopes(tree):
        for found in _Scope(path, names, known).read(body):
            lines = (found.location.line, found.target_location.line)
            if lines not in seen:
                seen.add(lines)
                yield found


def _positions(arguments: ast.arguments) -> list[str]:
    return [each.arg for each in (*arguments.posonlyargs, *arguments.args)]


def _learn_function(node: ast.FunctionDef, names: Names, known: _Known) -> None:
    positions = _positions(node.args)
    windows = [each for each in _windows(node.body) if {each.inputs, each.targets} <= {*positions}]
    if windows:
        known.cutters[node.name] = positions, windows
    scope = _Scope("", names, known)
    for statement in statements(node.body):
        scope.step(statement)
        if isinstance(statement, ast.Return) and statement.value is not None:
            made = scope.made_of(statement.value)
            rows = [name for name in positions if made is not None and name in made.series]
            if made is not None and len(rows) == 1:
                known.smoothers[node.name] = positions.index(rows[0]), made.what


def _learn_class(node: ast.ClassDef, known: _Known) -> None:
    """Of a data set: what `__getitem__` cuts, by what `__init__` is given for it."""
    methods = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef)}
    made, item = methods.get("__init__"), methods.get("__getitem__")
    if made is None or item is None:
        return
    positions = _positions(made.args)[1:]
    given: dict[str, str] = {}
    for statement in constructor(node):
        for bound, value in bindings(statement):
            rows = unsliced(value) & {*positions}
            if len(bound) == 1 and len(rows) == 1:
                given[bound[0]] = rows.pop()
    windows = [
        _Window(given[each.inputs], given[each.targets], each.line)
        for each in _windows(item.body, _positions(item.args)[1:])
        if each.inputs in given and each.targets in given
    ]
    if windows:
        known.cutters[node.name] = positions, windows


def _windows(body: list[ast.stmt], running: list[str] | None = None) -> list[_Window]:
    """`x[t - 24:t]` with `y[t + 3]`, for a `t` that runs over the series."""
    moving = {*(running or ())}
    for node in (node for statement in body for node in ast.walk(statement)):
        if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            moving |= {each.id for each in ast.walk(node.target) if isinstance(each, ast.Name)}
    for statement in statements(body):  # `i = self.rows[k]`
        if isinstance(statement, ast.Assign) and used(statement.value) & moving:
            moving |= {name for name in assigned(statement) if name.isidentifier()}
    cuts = [node for statement in body for node in ast.walk(statement) if isinstance(node, ast.Subscript)]
    cuts = [node for node in cuts if isinstance(node.ctx, ast.Load) and used(_rows_of(node)) & moving]
    found = []
    for inputs in cuts:
        window = _rows_of(inputs)
        if not isinstance(window, ast.Slice) or window.lower is None or window.upper is None:
            continue
        for targets in cuts:
            place = _rows_of(targets)
            first = place.lower if isinstance(place, ast.Slice) else place
            if first is None or not used(window.upper) & used(first) & moving:
                continue
            if at_least(difference(first, window.upper)):
                found.append(_Window(ast.unparse(inputs.value), ast.unparse(targets.value), targets.lineno))
    return [*found, *_all_windows(body)]


def _all_windows(body: list[ast.stmt]) -> Iterator[_Window]:
    """`sliding_window_view(x, 24)` or `x.unfold(0, 24, 1)` with `y[24:]`: each row of the one and its successor."""
    nodes = [node for statement in body for node in ast.walk(statement)]
    for node in nodes:
        views, length = _views(node)
        for cut in nodes if length is not None else ():
            if (
                not isinstance(cut, ast.Subscript)
                or not isinstance(cut.slice, ast.Slice)
                or cut.slice.upper is not None
            ):
                continue
            if cut.slice.lower is not None and length is not None and at_least(difference(cut.slice.lower, length)):
                yield _Window(ast.unparse(views), ast.unparse(cut.value), cut.lineno)


def _views(node: ast.AST) -> tuple[ast.AST, ast.expr | None]:
    """(series, length of the windows), of every window of a series at every step."""
    if not isinstance(node, ast.Call):
        return node, None
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name == "sliding_window_view" and len(node.args) >= 2:
        return node.args[0], node.args[1]
    if name == "unfold" and isinstance(node.func, ast.Attribute) and len(node.args) == 3 and _is(node.args[2], 1):
        return node.func.value, node.args[1]
    return node, None


def _rows_of(cut: ast.Subscript) -> ast.expr:
    return cut.slice.elts[0] if isinstance(cut.slice, ast.Tuple) and cut.slice.elts else cut.slice


@dataclass(frozen=True)
class _Filtered:
    what: str
    series: frozenset[str]
    line: int


class _Scope:
    def __init__(self, path: str, names: Names, known: _Known) -> None:
        self._path = path
        self._names = names
        self._known = known
        self._filtered: dict[str, _Filtered] = {}
        self._padded: dict[str, frozenset[str]] = {}  # to both sides, by as much
        self._summed: dict[str, frozenset[str]] = {}  # cumulative sums of such
        self._origin: dict[str, frozenset[str]] = {}
        self._scales: set[str] = set()  # variables that hold a mean, for example
        self._found: list[FutureFilter] = []

    def read(self, body: list[ast.stmt]) -> list[FutureFilter]:
        for statement in statements(body):
            self.step(statement)
        for window in _windows(body):
            self._judge(self._filtered.get(window.inputs), window.targets, window)
        return self._found

    def step(self, statement: ast.stmt) -> None:
        for expression in expressions(statement):
            for call in calls(expression):
                self._cut_by(call)
        for bound, value in bindings(statement):
            made = self.made_of(value)
            padded = self._pads(value)
            summed = self._sums(value)
            origin = self._same(value)
            for name in bound:
                self._filtered.pop(name, None)
                self._padded.pop(name, None)
                self._summed.pop(name, None)
                if made is not None:
                    self._filtered[name] = made
                elif padded:
                    self._padded[name] = padded
                elif summed:
                    self._summed[name] = summed
                self._origin.pop(name, None) if not origin else self._origin.update({name: origin})
                self._scales.add(name) if is_reduction(value, self._names) else self._scales.discard(name)

    def made_of(self, value: ast.expr) -> _Filtered | None:
        """The filter that the value went through, itself or by way of variables."""
        for call in calls(value):
            series, what = self._reaches(call)
            if series:
                return _Filtered(what, series, call.lineno)
        for node in ast.walk(value):
            series, what = self._by_hand(node)
            if series:
                return _Filtered(what, series, value.lineno)
        return next((self._filtered[name] for name in sorted(unsliced(value)) if name in self._filtered), None)

    def _cut_by(self, call: ast.Call) -> None:
        """`Windows(smoothed, level)`"""
        positions, windows = self._known.cutters.get(getattr(call.func, "id", ""), ([], []))
        given: dict[str, ast.expr] = dict(zip(positions, call.args, strict=False))
        given.update({word.arg: word.value for word in call.keywords if word.arg})
        for window in windows:
            if window.inputs in given and window.targets in given and window.inputs != window.targets:
                targets = given[window.targets]
                if self.made_of(targets) is None:
                    for name in sorted(unsliced(targets)):
                        self._judge(self.made_of(given[window.inputs]), name, window)

    def _judge(self, made: _Filtered | None, targets: str, window: _Window) -> None:
        if made is None or targets in self._filtered or not made.series & self._series(targets):
            return
        self._found.append(
            FutureFilter(
                what=made.what,
                data=min(made.series & self._series(targets)),
                location=Location(file=self._path, line=made.line),
                target_location=Location(file=self._path, line=window.line),
            )
        )

    def _same(self, value: ast.expr) -> frozenset[str]:
        """The series that the value still is, in another unit or of another type. What is computed from two series, or
        by any other function, is a series of its own."""
        names = {name for name in unsliced(value) if not self._names.is_module(name) and not is_constant(name)}
        names -= self._scales
        done = {call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
                for call in calls(value)}  # fmt: skip
        return self._series(names.pop()) if len(names) == 1 and done <= SAME else frozenset()

    def _series(self, name: str) -> frozenset[str]:
        return self._origin.get(name, frozenset({name}))

    # ------------------------------------------------------------------------------------------------------- filters

    def _reaches(self, call: ast.Call) -> tuple[frozenset[str], str]:
        """(the series whose future is in what such a call returns, the call by name)."""
        name = self._names.dotted(call.func).rpartition(".")[2] or getattr(call.func, "attr", "")
        what = ast.unparse(call.func)[:40]
        words = {word.arg: word.value for word in call.keywords if word.arg}
        if name in self._known.smoothers and isinstance(call.func, ast.Name):
            place, inner = self._known.smoothers[name]
            return (self._of(call.args[place]), f"{inner} in {name}()") if place < len(call.args) else (frozenset(), "")
        if name == "rolling" and isinstance(call.func, ast.Attribute) and _is(words.get("center"), True):
            return self._of(call.func.value), "rolling(center=True)"
        if name in BOTH_WAYS and "origin" not in words and len(call.args) > BOTH_WAYS[name]:
            return self._of(call.args[BOTH_WAYS[name]]), what
        if name in ("avg_pool1d", "conv1d") and call.args and not _is(words.get("padding", ast.Constant(0)), 0):
            return self._of(call.args[0]), f"{what} padded to both sides"
        if name in CONVOLUTIONS and len(call.args) >= 2:
            mode = words.get("mode", call.args[2] if len(call.args) > 2 else None)
            if _is(mode, "same"):
                return self._of(call.args[0]), f"{what} with mode='same'"
            if _is(mode, "valid"):
                return self._pads(call.args[0]), f"{what} padded to both sides"
        return frozenset(), ""

    def _by_hand(self, node: ast.AST) -> tuple[frozenset[str], str]:
        """Means of windows around each place: of a series padded to both sides by its cumulative sum or by a view, or
        `[x[t - 3 : t + 4].mean() for t in places]`."""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
            ends = [each.value for each in (node.left, node.right) if isinstance(each, ast.Subscript)]
            if len(ends) == 2 and ast.unparse(ends[0]) == ast.unparse(ends[1]) and isinstance(ends[0], ast.Name):
                return self._summed.get(ends[0].id, frozenset()), "a difference of sums padded to both sides"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MEANS:
            series, length = _views(node.func.value)
            if length is not None and isinstance(series, ast.expr):
                return self._pads(series), "a mean of windows padded to both sides"
        if isinstance(node, ast.ListComp) and isinstance(node.generators[0].target, ast.Name):
            return self._around(node.elt, node.generators[0].target), "a mean around each place"
        return frozenset(), ""

    def _around(self, mean: ast.expr, place: ast.Name) -> frozenset[str]:
        for call in calls(mean):
            cuts = [node for node in ast.walk(call) if isinstance(node, ast.Subscript)]
            name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
            for rows in (cut.slice for cut in cuts if name in MEANS):
                if not isinstance(rows, ast.Slice) or rows.lower is None or rows.upper is None:
                    continue
                before = place.id in used(rows.lower) and not at_least(difference(rows.lower, place))
                if before and at_least(difference(rows.upper, place), 2):
                    return frozenset().union(*(self._of(cut.value) for cut in cuts))
        return frozenset()

    def _pads(self, value: ast.expr) -> frozenset[str]:
        """The series in `np.pad(series, 3)` and `np.pad(series, (k // 2, k // 2))`."""
        if isinstance(value, ast.Name):
            return self._padded.get(value.id, frozenset())
        if not isinstance(value, ast.Call) or len(value.args) < 2:
            return frozenset()
        width = value.args[1]
        ends = [ast.unparse(each) for each in width.elts] if isinstance(width, ast.Tuple) else ["", ""]
        if self._names.dotted(value.func) != "numpy.pad" or len(ends) != 2 or ends[0] != ends[1] or ends[0] == "0":
            return frozenset()
        return self._of(value.args[0])

    def _sums(self, value: ast.expr) -> frozenset[str]:
        """Of the cumulative sum of such a series."""
        name = getattr(value.func, "attr", "") if isinstance(value, ast.Call) else ""
        return (
            self._pads(value.args[0])
            if name == "cumsum" and isinstance(value, ast.Call) and value.args
            else frozenset()
        )

    def _of(self, value: ast.expr) -> frozenset[str]:
        """The series that the value is, by the variable that held it first; a kernel beside it counts as well."""
        found = {name for name in used(value) if not self._names.is_module(name)}
        return frozenset().union(*(self._series(name) for name in found))


def _is(value: ast.expr | None, wanted: object) -> bool:
    return isinstance(value, ast.Constant) and value.value == wanted
