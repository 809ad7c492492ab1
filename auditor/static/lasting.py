"""Lists that are default arguments, to which a function adds batch by batch: they live on from call to call, so that a
score of all they hold is one of all calls so far."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from auditor.evidence import Accumulator, Location
from auditor.static.names import LOOPS, assigned, statements, used

_ADDING = ("append", "extend")
_EMPTYING = ("clear", "pop", "remove")


def lasting_lists(path: str, tree: ast.Module) -> Iterator[Accumulator]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    repeated = {id(node) for loop in ast.walk(tree) if isinstance(loop, LOOPS) for node in ast.walk(loop)}
    for function in ast.walk(tree):
        # In training, a mean over all so far may be meant.
        if isinstance(function, ast.FunctionDef) and "backward" not in {_called(call) for call in _calls(function)}:
            mine = [call for call in calls if _called(call) == function.name]
            again = len(mine) > 1 or any(id(call) in repeated for call in mine)
            for name, position, default in _defaults(function):
                if again and not any(_gives(call, name, position, function) for call in mine):
                    yield from _of_list(path, function, name, default)


def _defaults(function: ast.FunctionDef) -> Iterator[tuple[str, int, ast.expr]]:
    """(parameter, its place, -1 for one by name alone, its default), where that is an empty list."""
    places = [*function.args.posonlyargs, *function.args.args]
    first = len(places) - len(function.args.defaults)
    pairs = [(each.arg, first + number) for number, each in enumerate(places[first:])]
    given: list[tuple[str, int, ast.expr | None]] = [
        (name, place, default) for (name, place), default in zip(pairs, function.args.defaults, strict=True)
    ]
    by_name = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    given += [(each.arg, -1, default) for each, default in by_name]
    for name, place, default in given:
        empty = isinstance(default, ast.List) and not default.elts
        called = isinstance(default, ast.Call) and ast.unparse(default) == "list()"
        if default is not None and (empty or called):
            yield name, place, default


def _calls(function: ast.FunctionDef) -> Iterator[ast.Call]:
    return (node for node in ast.walk(function) if isinstance(node, ast.Call))


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _gives(call: ast.Call, name: str, position: int, function: ast.FunctionDef) -> bool:
    """Or may do so."""
    spread = any(isinstance(each, ast.Starred) for each in call.args) or any(word.arg is None for word in call.keywords)
    bound = isinstance(call.func, ast.Attribute) and [*function.args.args][:1] and function.args.args[0].arg == "self"
    return spread or any(word.arg == name for word in call.keywords) or 0 <= position < len(call.args) + bool(bound)


def _of_list(path: str, function: ast.FunctionDef, name: str, default: ast.expr) -> Iterator[Accumulator]:
    """Added to in a loop, never emptied or built anew, and made into what is returned as a whole."""
    if any(name in assigned(each) for each in statements(function.body)):
        return
    methods = [(node, node.func.attr) for node in ast.walk(function)
               if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
               and ast.unparse(node.func.value) == name]  # fmt: skip
    inside = {id(node) for loop in statements(function.body) if isinstance(loop, LOOPS) for node in ast.walk(loop)}
    added = [call for call, method in methods if method in _ADDING and id(call) in inside]
    sliced = any(isinstance(node, ast.Subscript) and name in used(node.value) for node in ast.walk(function))
    emptied = sliced or any(method in _EMPTYING for _, method in methods)
    read = next((each for each in _returned(function) if name in _made_from(function, each)), None)
    if added and not emptied and read is not None:
        yield Accumulator(
            name=name,
            divisor="its length",
            lasting=True,
            location=Location(file=path, line=added[0].lineno),
            started=Location(file=path, line=default.lineno),
            used=Location(file=path, line=read.lineno),
        )


def _returned(function: ast.FunctionDef) -> Iterator[ast.expr]:
    """A list that is returned as it is may be meant to grow."""
    for each in statements(function.body):
        if isinstance(each, ast.Return) and each.value is not None:
            values = each.value.elts if isinstance(each.value, ast.Tuple) else [each.value]
            yield from (value for value in values if not isinstance(value, ast.Name))
            yield from (value for value in values if isinstance(value, ast.Name) and _bound(function, value.id))


def _bound(function: ast.FunctionDef, name: str) -> bool:
    return any(name in assigned(each) for each in statements(function.body))


def _made_from(function: ast.FunctionDef, value: ast.expr) -> set[str]:
    """The names in it, and in what its variables were set to."""
    found, new = set[str](), used(value)
    while new - found:
        found |= new
        settings = (each for each in statements(function.body) if isinstance(each, ast.Assign))
        new = {name for each in settings if found & {*assigned(each)} for name in used(each.value)}
    return found
