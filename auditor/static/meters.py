"""Objects that average over the batches of an evaluation and that nothing sets back between the epochs, while others of
their class are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from auditor.evidence import Accumulator, Location
from auditor.static.names import LOOPS, scopes, statements

_ADDING = ("update", "add", "append", "log", "accumulate")
_RESETTING = ("reset", "clear", "zero", "reset_state")
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class _Meter:
    kind: str  # its class
    built: ast.stmt
    times: int = 1  # that it is built
    added: list[tuple[str, ast.Call]] = field(default_factory=list)  # the function around a loop, the call inside
    resets: int = 0
    read: ast.Attribute | None = None


def meters(path: str, tree: ast.Module) -> Iterator[Accumulator]:
    kinds = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and _is_meter(node)}
    found = _built(tree, kinds) if kinds else {}
    if not found:
        return
    for body in scopes(tree):
        _follow(body, _owner(tree, body), found)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            meter = found.get(ast.unparse(node.value))
            if meter is not None and node.attr in _RESETTING:
                meter.resets += 1
            elif meter is not None and node.attr not in _ADDING:
                meter.read = meter.read or node
    reset = {meter.kind for meter in found.values() if meter.resets}
    repeated = _called_in_loops(tree)
    for name, meter in found.items():
        again = [call for function, call in meter.added if function in repeated]
        if meter.kind in reset and not meter.resets and meter.times == 1 and again and meter.read is not None:
            yield Accumulator(
                name=name,
                divisor=f"its count, in {meter.kind}",
                together=True,
                location=Location(file=path, line=again[0].lineno),
                started=Location(file=path, line=meter.built.lineno),
                used=Location(file=path, line=meter.read.lineno),
            )


def _is_meter(node: ast.ClassDef) -> bool:
    """It can be set back, and adds to attributes of its own."""
    methods = {each.name: each for each in node.body if isinstance(each, _Function)}
    adding = [methods[name] for name in _ADDING if name in methods]
    sums = (each for method in adding for each in ast.walk(method) if isinstance(each, ast.AugAssign))
    return any(name in methods for name in _RESETTING) and any(isinstance(each.target, ast.Attribute) for each in sums)


def _built(tree: ast.Module, kinds: set[str]) -> dict[str, _Meter]:
    """By what they are called: attributes that `__init__` sets, and names of the module outside of loops."""
    found: dict[str, _Meter] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        pairs = [(node.targets[0], node.value)]
        if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = list(zip(node.targets[0].elts, node.value.elts, strict=False))
        for target, value in pairs:
            if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in kinds:
                name = ast.unparse(target)
                if name in found:
                    found[name].times += 1
                else:
                    found[name] = _Meter(value.func.id, node)
    once = {id(each) for each in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            once.update(id(each) for each in node.body)
    return {name: meter for name, meter in found.items() if id(meter.built) in once}


def _owner(tree: ast.Module, body: list[ast.stmt]) -> str:
    return next((node.name for node in ast.walk(tree) if isinstance(node, _Function) and node.body is body), "")


def _follow(body: list[ast.stmt], function: str, found: dict[str, _Meter]) -> None:
    """Notes what is added to in the loops of one scope that do not train."""
    for loop in (each for each in statements(body) if isinstance(each, LOOPS)):
        calls = [each for each in ast.walk(loop) if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute)]
        if any(isinstance(call.func, ast.Attribute) and call.func.attr == "backward" for call in calls):
            continue
        for call in calls:
            assert isinstance(call.func, ast.Attribute)
            meter = found.get(ast.unparse(call.func.value)) if call.func.attr in _ADDING else None
            if meter is not None:
                meter.added.append((function, call))


def _called_in_loops(tree: ast.Module) -> set[str]:
    """Names of functions and methods that some loop calls."""
    loops = (node for node in ast.walk(tree) if isinstance(node, LOOPS))
    calls = (node.func for loop in loops for node in ast.walk(loop) if isinstance(node, ast.Call))
    return {func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls} - {""}
