"""Sums over batches that the loop over epochs never starts anew."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from auditor.evidence import Accumulator, Location
from auditor.static.folds import kept
from auditor.static.names import LOOPS, assigned, scopes, statements, used

_VALUES = ("item", "sum", "tolist", "numpy", "mean")  # methods that make a number of a batch's loss or of its hits
_Loop = ast.For | ast.AsyncFor | ast.While


def accumulators(path: str, tree: ast.Module) -> Iterator[Accumulator]:
    for body in scopes(tree):
        for loop in _epoch_loops(body):
            yield from _of_loop(path, body, loop)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from _of_class(path, node)


def _epoch_loops(body: list[ast.stmt]) -> Iterator[_Loop]:
    """Loops of the scope that contain another one, and are in none themselves."""
    inside: set[int] = set()
    for statement in statements(body):
        if isinstance(statement, LOOPS) and id(statement) not in inside:
            inner = [each for each in statements(statement.body) if isinstance(each, LOOPS)]
            inside.update(id(each) for each in inner)
            if inner:
                yield statement


def _of_loop(path: str, body: list[ast.stmt], epochs: _Loop) -> Iterator[Accumulator]:
    batches = [each for each in statements(epochs.body) if isinstance(each, LOOPS)]
    inner = {id(each) for loop in batches for each in statements(loop.body)}
    outer = [each for each in statements(epochs.body) if id(each) not in inner]
    carried = {
        name: each
        for loop in batches
        for each in statements(loop.body)
        for name in _added(each)
        if not any(_sets(other, name) for other in statements(epochs.body) if not _added(other))
    }
    counter = set(assigned(epochs))
    for loop in batches:
        yield from _of_evaluation(path, body, epochs, loop, carried)
    for name, added in carried.items():
        started = next(
            (
                each
                for each in statements(body)
                if each.lineno < epochs.lineno and {name, _base(name)} & {*assigned(each)}
            ),
            None,
        )
        if started is None or not _is_metric(added):
            continue
        for statement in outer:
            if statement.lineno > added.lineno and not isinstance(statement, LOOPS):
                yield from _divided(path, name, added, started, statement, {*carried, *counter})


def _of_evaluation(
    path: str, body: list[ast.stmt], epochs: _Loop, loop: _Loop, carried: dict[str, ast.stmt]
) -> Iterator[Accumulator]:
    """Hits and samples that both go on, over the same data under the same model, while that is trained in between: the
    score of an epoch is a mean of all so far. In training such a mean may be meant."""
    inside = {id(each) for each in statements(loop.body)}
    added = {name: each for each in statements(loop.body) for name in _added(each)}
    bound = {name for each in [epochs, *statements(epochs.body)] if id(each) not in inside for name in assigned(each)}
    read = used(loop.iter) if isinstance(loop, ast.For | ast.AsyncFor) else bound
    fed = {call.func.id for call in _calls(loop) if isinstance(call.func, ast.Name)}
    if not bound.isdisjoint({*read, *fed} - set(assigned(loop))) or any(name not in carried for name in added):
        return
    if not _over_data(loop) or _trains(loop) or not _trains(epochs):
        return
    if not fed or not all(kept(each, epochs.body) for each in fed):  # or a training of its own in every round
        return
    after = [each for each in statements(epochs.body) if id(each) not in inside and each.lineno > loop.lineno]
    for name, other in ((a, b) for a in added for b in added if a != b and _is_metric(added[a])):
        started = _started(body, epochs, name)
        used_at = next((node for each in after if (node := _ratio(each, name, other)) is not None), None)
        if started is not None and _started(body, epochs, other) is not None and used_at is not None:
            yield Accumulator(
                name=name,
                divisor=other,
                together=True,
                location=Location(file=path, line=added[name].lineno),
                started=Location(file=path, line=started.lineno),
                used=Location(file=path, line=used_at.lineno),
            )
            return


def _started(body: list[ast.stmt], epochs: _Loop, name: str) -> ast.stmt | None:
    earlier = (each for each in statements(body) if each.lineno < epochs.lineno)
    return next((each for each in earlier if name in assigned(each)), None)


def _calls(loop: _Loop) -> list[ast.Call]:
    return [node for node in ast.walk(loop) if isinstance(node, ast.Call)]


def _trains(loop: _Loop) -> bool:
    return any(isinstance(call.func, ast.Attribute) and call.func.attr == "backward" for call in _calls(loop))


def _over_data(loop: _Loop) -> bool:
    """A loader, or slices up to a length; not so many steps of a game."""
    if not isinstance(loop, ast.For | ast.AsyncFor):
        return False
    called = loop.iter if isinstance(loop.iter, ast.Call) else None
    counts = called is not None and ast.unparse(called.func) in ("range", "trange")
    return not counts or called is None or len(called.args) == 3 or "len(" in ast.unparse(called)


def _ratio(statement: ast.stmt, name: str, other: str) -> ast.BinOp | None:
    """`name / other`, maybe times 100."""
    if isinstance(statement, LOOPS):
        return None
    for node in ast.walk(statement):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and ast.unparse(node.right) == other:
            left = {ast.unparse(each) for each in ast.walk(node.left) if isinstance(each, ast.expr)}
            if name in left and ast.unparse(node.left).count(other) == 0:
                return node
    return None


def _base(name: str) -> str:
    """'sums' for an entry such as `sums['loss']`."""
    return name.partition("[")[0]


def _sets(statement: ast.stmt, name: str) -> bool:
    """It sets the sum; or, of an entry, the whole, another entry under a variable key, or hands the whole to a call."""
    if name in assigned(statement):
        return True
    base = _base(name)
    if base == name:
        return False
    if any(target == base or (target.startswith(f"{base}[") and "'" not in target) for target in assigned(statement)):
        return True
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call) or ast.unparse(call.func) == "print":
        return False
    given = [call.func.value if isinstance(call.func, ast.Attribute) else None, *call.args]
    return any(isinstance(each, ast.expr) and ast.unparse(each) == base for each in given)


def _of_class(path: str, node: ast.ClassDef) -> Iterator[Accumulator]:
    """`self.total += ...` in the loop of a method that divides it afterwards, while only __init__ ever sets it."""
    methods = [each for each in node.body if isinstance(each, ast.FunctionDef)]
    setting = {
        name: (method.name, statement)
        for method in methods
        for statement in statements(method.body)
        for name in assigned(statement)
        if name.startswith("self.") and not _added(statement)
    }
    for method in methods:
        loops = [each for each in statements(method.body) if isinstance(each, LOOPS)]
        added = {name: each for loop in loops for each in statements(loop.body) for name in _added(each)}
        carried = {
            name: each
            for name, each in added.items()
            if setting.get(name, ("", None))[0] == "__init__" and method.name != "__init__"
        }
        elsewhere = {name for other in methods for each in statements(other.body) if not _added(each)
                     for name in assigned(each) if other.name != "__init__"}  # fmt: skip
        inside = {id(each) for loop in loops for each in statements(loop.body)}
        for name, each in carried.items():
            if name in elsewhere or not _is_metric(each):
                continue
            for statement in statements(method.body):
                if id(statement) not in inside and statement.lineno > each.lineno and not isinstance(statement, LOOPS):
                    yield from _divided(path, name, each, setting[name][1], statement, set(carried))


def _added(statement: ast.stmt) -> list[str]:
    """The name that `x += ...` or `x = x + ...` adds to."""
    if isinstance(statement, ast.AugAssign) and isinstance(statement.op, ast.Add):
        return assigned(statement)
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.value, ast.BinOp):
        target = ast.unparse(statement.targets[0])
        sides = (ast.unparse(statement.value.left), ast.unparse(statement.value.right))
        return [target] if isinstance(statement.value.op, ast.Add) and target in sides else []
    return []


def _is_metric(statement: ast.stmt) -> bool:
    """It adds a loss or hits, not a constant or the size of a batch."""
    value = statement.value if isinstance(statement, ast.AugAssign | ast.Assign) else statement
    calls = {
        node.func.attr
        for node in ast.walk(value)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    words = ast.unparse(value).lower()
    return bool(calls & set(_VALUES)) or "loss" in words or "correct" in words


def _divided(
    path: str, name: str, added: ast.stmt, started: ast.stmt, statement: ast.stmt, carried: set[str]
) -> Iterator[Accumulator]:
    """Divisions of the sum by something that does not grow from epoch to epoch as the sum does."""
    for node in ast.walk(statement) if not isinstance(statement, ast.FunctionDef | ast.ClassDef) else ():
        if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Div):
            continue
        parts = ast.Name | ast.Attribute | ast.Subscript
        over = {ast.unparse(each) for each in ast.walk(node.right) if isinstance(each, parts)}
        if (
            name in {ast.unparse(each) for each in ast.walk(node.left) if isinstance(each, ast.expr)}
            and not over & carried
        ):
            yield Accumulator(
                name=name,
                divisor=ast.unparse(node.right)[:60],
                location=Location(file=path, line=added.lineno),
                started=Location(file=path, line=started.lineno),
                used=Location(file=path, line=node.lineno),
            )
            return
