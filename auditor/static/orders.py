"""Inputs and targets that are each brought into a random order of its own: `shuffle(x)`, then `shuffle(y)`."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from auditor.evidence import Location, OwnOrders
from auditor.static.names import Names, assigned, scopes, statements
from auditor.static.reductions import TARGETS
from auditor.static.wholes import keeps_rows, part_of

PERMUTATIONS = ("randperm", "permutation")
# After one of these, the second order may be the first one again.
RESEEDS = ("seed", "manual_seed", "seed_everything", "set_seed", "set_state", "setstate", "set_rng_state",
           "default_rng", "RandomState", "Random", "Generator")  # fmt: skip


def own_orders(path: str, tree: ast.Module, names: Names) -> Iterator[OwnOrders]:
    for body in scopes(tree):
        found: dict[str, tuple[str, int]] = {}  # variable -> (what draws its order, line)
        pairs: dict[tuple[str, str], tuple[int, int]] = {}
        for statement in statements(body):
            if any(_last(call) in RESEEDS for call in _calls(statement)):
                found.clear()
            ordered = _ordered(statement, names)
            for name in assigned(statement):
                found.pop(name, None)
            if ordered is None:
                continue
            name, source, line = ordered
            for other, (its, before) in found.items():
                if its == source and is_target(name) != is_target(other) and not _domains(name, other):
                    inputs, targets = (other, name) if is_target(name) else (name, other)
                    pairs[inputs, targets] = (before, line)
            found[name] = (source, line)
        for (inputs, targets), (before, line) in pairs.items():
            if _belong_together(body, inputs, targets, line):
                first = Location(file=path, line=before)
                yield OwnOrders(inputs=inputs, targets=targets, first=first, location=Location(file=path, line=line))


def _domains(*variables: str) -> bool:
    """Two domains, or two languages, have no order in common to lose: `source` and `target`."""
    return any(piece in ("source", "src") for name in variables for piece in name.lower().split("_"))


def is_target(name: str) -> bool:
    return any(piece in TARGETS for piece in name.lower().split("_"))


def _ordered(statement: ast.stmt, names: Names) -> tuple[str, str, int] | None:
    """(variable, what draws, line) of `rng.shuffle(x)`, `x = rng.permutation(x)` and `x = x[torch.randperm(n)]`."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        call = statement.value
        if _last(call) == "shuffle" and len(call.args) == 1 and isinstance(call.args[0], ast.Name):
            return _drawn(call.args[0].id, call, names)
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name):
        name, value = statement.targets[0].id, statement.value
        if isinstance(value, ast.Subscript) and isinstance(value.value, ast.Name) and value.value.id == name:
            value = value.slice
            if isinstance(value, ast.Call) and _last(value) in PERMUTATIONS and not value.keywords:
                return _drawn(name, value, names)
        elif isinstance(value, ast.Call) and _last(value) == "permutation":
            given = [each.id for each in value.args if isinstance(each, ast.Name)]
            return _drawn(name, value, names) if given == [name] else None
    return None


def _drawn(name: str, call: ast.Call, names: Names) -> tuple[str, str, int] | None:
    """None where the generator is made for this one order."""
    source = names.dotted(call.func)
    return (name, source, call.lineno) if source else None


def _belong_together(body: list[ast.stmt], inputs: str, targets: str, line: int) -> bool:
    """Later on, both are handed over in one call, or rows are taken of both by one index."""
    indices: dict[str, set[str]] = {inputs: set(), targets: set()}
    for statement in statements(body):
        if statement.lineno <= line:
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Call):
                given = {each.id for each in node.args if isinstance(each, ast.Name)}
                if {inputs, targets} <= given:
                    return True
            if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and not keeps_rows(node.slice):
                indices.setdefault(node.value.id, set()).add(part_of(node.slice))
    return bool(indices[inputs] & indices[targets] - {""})


def _calls(statement: ast.stmt) -> list[ast.Call]:
    """Of the statement itself, not of those in it."""
    own = [child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.expr)]
    return [node for child in own for node in ast.walk(child) if isinstance(node, ast.Call)]


def _last(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
