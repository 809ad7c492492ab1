"""Inputs and targets that are each brought into a random order of its own: `shuffle(x)`, then `shuffle(y)`.

An order is told by the call that drew it: `x = x[p]` and `y = y[p]` have one order, unless `p` was drawn anew between.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from auditor.evidence import Location, OwnOrders
from auditor.static.attributes import constructor, with_plain_attributes
from auditor.static.names import Names, assigned, scopes, statements, used
from auditor.static.reductions import TARGETS, bindings
from auditor.static.wholes import keeps_rows, part_of

PERMUTATIONS = ("randperm", "permutation")
PICKS = ("randint", "integers")  # rows at random, for one batch
# After one of these, the second order may be the first one again.
RESEEDS = ("seed", "manual_seed", "seed_everything", "set_seed", "set_state", "setstate", "set_rng_state",
           "default_rng", "RandomState", "Random", "Generator")  # fmt: skip
NO_USE = ("print", "len", "log", "info", "debug")  # what takes both in one call, and does not need their rows to agree


@dataclass(frozen=True)
class _Order:
    draw: int  # number of the call that drew it
    source: str  # what drew it, as `numpy.random.permutation`
    line: int
    target: bool  # of targets, by their name

    def against(self, other: _Order) -> bool:
        return self.draw != other.draw and self.source == other.source and self.target != other.target


def own_orders(path: str, tree: ast.Module, names: Names) -> Iterator[OwnOrders]:
    tree = with_plain_attributes(tree)
    shufflers = _shufflers(tree)
    constructors: list[tuple[list[ast.stmt], list[ast.stmt]]] = [
        (constructor(node), [node]) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    ]
    seen: set[tuple[int, int]] = set()
    for body, uses in [*((body, body) for body in scopes(tree)), *constructors]:
        scope = _Scope(names, shufflers)
        for statement in statements(body):
            scope.step(statement)
        for inputs, targets, before, after in scope.pairs():
            lines = (before.line, after.line)
            if lines not in seen and _belong_together(uses, inputs, targets, max(lines)):
                seen.add(lines)
                first, last = (Location(file=path, line=line) for line in sorted(lines))
                yield OwnOrders(inputs=inputs, targets=targets, first=first, location=last)


def is_target(name: str) -> bool:
    return any(piece in TARGETS for piece in name.lower().removeprefix("self.").split("_"))


def _shufflers(tree: ast.Module) -> set[str]:
    """Functions of the user's own that return what they are given in an order that they draw: `a[randperm(len(a))]`."""
    found = set()
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or len(node.args.args) != 1:
            continue
        scope = _Scope(Names(ast.Module([], [])), set())
        given = node.args.args[0].arg
        for statement in statements(node.body):
            returned = statement.value if isinstance(statement, ast.Return) and not scope.reseeded else None
            if returned is not None and scope.ordered(given, returned) is not None:
                found.add(node.name)
            scope.step(statement)
    return found


class _Scope:
    """Follows which variable holds which draw, and which rows were put into which order."""

    def __init__(self, names: Names, shufflers: set[str]) -> None:
        self._names = names
        self._shufflers = shufflers
        self._draws: dict[str, tuple[int, str]] = {}  # variable -> (number, what drew it) of the order that it holds
        self._orders: dict[str, _Order] = {}
        self._pairs: dict[tuple[str, str], tuple[_Order, _Order]] = {}
        self._halves: set[tuple[int, bool]] = set()  # (number of a draw, whether targets were put into it)
        self._count = 0
        self.reseeded = False

    def step(self, statement: ast.stmt) -> None:
        if any(_last(call) in RESEEDS for call in _calls(statement)):
            self._orders.clear()
            self._draws.clear()
            self.reseeded = True
        orders: dict[str, _Order] = {}
        draws: dict[str, tuple[int, str]] = {}
        self._in_place(statement, orders)
        for [name], value in (each for each in bindings(statement) if len(each[0]) == 1):
            drawn = self._drawn(value)
            order = self.ordered(name, value)
            if order is not None:
                self._halves.add((order.draw, order.target))
            elif drawn is not None:
                draws[name] = drawn
            order = order or self._renamed(value)
            if order is not None:
                orders[name] = order
        for name in assigned(statement):
            self._orders.pop(name, None)
            self._draws.pop(name, None)
        self._draws.update(draws)
        for name, order in orders.items():
            self._put(name, order)

    def pairs(self) -> Iterator[tuple[str, str, _Order, _Order]]:
        """(inputs, targets, their orders), where neither has another half that was put into the same order."""
        for (inputs, targets), (mine, its) in self._pairs.items():
            if (mine.draw, True) not in self._halves and (its.draw, False) not in self._halves:
                yield inputs, targets, mine, its

    def _put(self, name: str, order: _Order) -> None:
        for other, its in self._orders.items():
            if its.against(order) and not _domains(name, other):
                mine, pair = ((other, name), (its, order)) if order.target else ((name, other), (order, its))
                self._pairs[mine] = pair
        self._orders[name] = order

    def _in_place(self, statement: ast.stmt, orders: dict[str, _Order]) -> None:
        """`rng.shuffle(x)`, of rows or of a list of indices: which of them, what it is used for tells."""
        if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
            return
        call = statement.value
        if _last(call) != "shuffle" or len(call.args) != 1 or not isinstance(call.args[0], ast.Name):
            return
        name, drawn = call.args[0].id, self._new(call)
        order = self._order(name, name, drawn, call)
        if drawn is not None and order is not None:
            self._draws[name], orders[name] = drawn, order

    def ordered(self, name: str, value: ast.expr) -> _Order | None:
        """`x = rng.permutation(x)`, `x = shuffle(x)`, `x = x[torch.randperm(n)]`, `x = x[p]`, `x = x[p[:n]]`."""
        if isinstance(value, ast.Call):
            given = [each.id for each in value.args if isinstance(each, ast.Name)]
            own = isinstance(value.func, ast.Name) and value.func.id in self._shufflers
            whole = _last(value) == "permutation" or own or self._names.dotted(value.func) == "sklearn.utils.shuffle"
            if (
                whole
                and len(value.args) == 1
                and len(given) == 1
                and (given == [name] or _last(value) != "permutation")
            ):
                return self._order(name, given[0], self._new(value), value)
            return None
        if not isinstance(value, ast.Subscript) or not isinstance(value.value, ast.Name):
            return None
        index = value.slice
        if isinstance(index, ast.Call) and _last(index) in (*PERMUTATIONS, *PICKS):
            return self._order(name, value.value.id, self._new(index), value)
        return self._order(name, value.value.id, self._drawn(index), value)

    def _order(self, name: str, rows: str, drawn: tuple[int, str] | None, node: ast.expr) -> _Order | None:
        if drawn is None or (rows in self._draws and rows != name):
            return None  # a part of a list of indices
        return _Order(*drawn, line=node.lineno, target=is_target(rows) or is_target(name))

    def _drawn(self, value: ast.expr) -> tuple[int, str] | None:
        """The draw that the value is, or is a part of: `torch.randperm(n)`, `p[:n]`, `p.tolist()`."""
        if isinstance(value, ast.Tuple | ast.Slice | ast.BinOp | ast.Compare):
            return None
        for node in ast.walk(value):
            if isinstance(node, ast.Call) and _last(node) in PERMUTATIONS:
                return self._new(node)
        known = {self._draws[name] for name in used(value) if name in self._draws}
        return known.pop() if len(known) == 1 else None

    def _new(self, call: ast.Call) -> tuple[int, str] | None:
        """None where the generator is made for this one order."""
        source = self._names.dotted(call.func)
        if not source or any(isinstance(node, ast.Call) for word in call.keywords for node in ast.walk(word.value)):
            return None
        if any(word.arg in ("random_state", "seed") for word in call.keywords):
            return None
        self._count += 1
        return self._count, " ".join(
            [source, *(ast.unparse(word) for word in call.keywords if word.arg == "generator")]
        )

    def _renamed(self, value: ast.expr) -> _Order | None:
        """The same rows by another name, or a part of them: `torch.from_numpy(x).float()`, `x[:n]`."""
        if not isinstance(value, ast.Call | ast.Subscript | ast.Attribute | ast.Name):
            return None
        known = [self._orders[name] for name in used(value) if name in self._orders]
        return known[0] if len(known) == 1 else None


def _domains(*variables: str) -> bool:
    """Two domains, or two languages, have no order in common to lose: `source` and `target`."""
    return any(piece in ("source", "src") for name in variables for piece in name.lower().split("_"))


def _belong_together(body: list[ast.stmt], inputs: str, targets: str, line: int) -> bool:
    """Later on, both are handed over in one call or returned as a pair, or appended to two lists side by side, or rows
    are taken of both by one index."""
    if _appended(body, inputs, targets, line):
        return True
    indices: dict[str, set[str]] = {inputs: set(), targets: set()}
    for node in (node for statement in body for node in ast.walk(statement)):
        if getattr(node, "lineno", 0) <= line:
            continue
        if any({inputs, targets} <= _handed_over(together) for together in _together(node)):
            return True
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and not keeps_rows(node.slice):
            indices.setdefault(node.value.id, set()).add(part_of(node.slice))
    return bool(indices[inputs] & indices[targets] - {""})


def _together(node: ast.AST) -> list[list[ast.expr]]:
    """What a call is given, also as a pair; what is returned or yielded as a pair."""
    if isinstance(node, ast.Call) and _last(node) not in NO_USE:
        return [node.args, *(each.elts for each in node.args if isinstance(each, ast.Tuple))]
    if isinstance(node, ast.Return | ast.Yield) and isinstance(node.value, ast.Tuple):
        return [node.value.elts]
    return []


def _appended(body: list[ast.stmt], inputs: str, targets: str, line: int) -> bool:
    """`xs.append(x)` and `ys.append(y)` in one block, one as often as the other."""
    lists: dict[str, set[str]] = {inputs: set(), targets: set()}
    for statement in body:
        for block in (getattr(statement, part, None) for part in ("body", "orelse", "finalbody")):
            if isinstance(block, list) and _appended(block, inputs, targets, line):
                return True
        call = statement.value if isinstance(statement, ast.Expr) else None
        if not isinstance(call, ast.Call) or call.lineno <= line or _last(call) not in ("append", "extend"):
            continue
        for name in _handed_over(call.args) & set(lists):
            lists[name].add(ast.unparse(call.func))
    return any(one != other for one in lists[inputs] for other in lists[targets])


def _handed_over(values: list[ast.expr]) -> set[str]:
    return {each.id for each in map(_plain, values) if isinstance(each, ast.Name)}


def _plain(value: ast.expr) -> ast.expr:
    """`x` of `torch.from_numpy(x).float()`."""
    while isinstance(value, ast.Call):
        inner = value.func.value if isinstance(value.func, ast.Attribute) else None
        value = value.args[0] if value.args and not isinstance(inner, ast.Call) else inner or value.func
    return value


def _calls(statement: ast.stmt) -> list[ast.Call]:
    """Of the statement itself, not of those in it."""
    own = [child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.expr)]
    return [node for child in own for node in ast.walk(child) if isinstance(node, ast.Call)]


def _last(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
