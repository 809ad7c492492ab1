"""Cross-validation whose folds all train one model: from the second fold on it knows what it is tested on."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from auditor.evidence import FoldLoop, Location
from auditor.static.names import LOOPS, assigned, scopes, statements, used

SPLITTERS = ("KFold", "ShuffleSplit", "LeaveOneOut", "LeaveOneGroupOut")
SPLITTER_NAMES = ("kf", "skf", "gkf", "kfold", "folds", "cv", "splitter")
HARMLESS = ("train", "eval", "parameters", "named_parameters", "zero_grad", "state_dict", "forward", "to")
FOLDS = re.compile(r"(^|_)k?_?folds?($|_)", re.IGNORECASE)
TRAINED = re.compile(r"(^|_)(train|tr|fit)", re.IGNORECASE)
HELD_OUT = re.compile(r"(^|_)(val|va|test|te|dev|held|hold)", re.IGNORECASE)
ANEW = ("init", "reset", "fresh", "restore", "load", "copy", "clone", "build", "make", "create", "rewind")


def fold_loops(path: str, tree: ast.Module) -> Iterator[FoldLoop]:
    if "TimeSeriesSplit" in used(tree):
        return  # each fold is tested on what comes after all that was trained on
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for body in scopes(tree):
        before: dict[str, ast.Assign] = {}
        for statement in statements(body):
            if isinstance(statement, ast.For) and _is_over_folds(statement) and not _leaves(statement):
                for name, made in before.items():
                    if _trains_on(name, statement, body, functions):
                        yield FoldLoop(
                            model=name,
                            built=Location(file=path, line=made.lineno),
                            location=Location(file=path, line=statement.lineno),
                        )
            elif isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
                before.update((name, statement) for name in assigned(statement))


def _is_over_folds(loop: ast.For) -> bool:
    """`for train, test in kf.split(x)`, or in folds by another name; or one that leaves the part of its own number out:
    `if i != fold`, or `x[:start] + x[end:]`."""
    for node in ast.walk(loop.iter):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "split":
            owner = ast.unparse(node.func.value)
            if owner.lower() in SPLITTER_NAMES or any(name in owner for name in SPLITTERS):
                return True
    bound = [each for each in assigned(loop) if each.isidentifier()]
    words = {*used(loop.iter), *(node.attr for node in ast.walk(loop.iter) if isinstance(node, ast.Attribute))}
    if any(map(FOLDS.search, words)) and any(map(TRAINED.search, bound)) and any(map(HELD_OUT.search, bound)):
        return True
    return _leaves_one_out(loop, set(bound))


def _leaves_one_out(loop: ast.For, numbers: set[str]) -> bool:
    if any(
        isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.NotEq) and bool(used(test) & numbers)
        for node in ast.walk(loop)
        if isinstance(node, ast.comprehension)
        for test in node.ifs
    ):
        return True
    depending = set(numbers)
    for statement in statements(loop.body):
        if isinstance(statement, ast.Assign) and used(statement.value) & depending:
            depending.update(assigned(statement))
        for node in ast.walk(statement) if isinstance(statement, ast.Assign) else ():
            joined = [node.left, node.right] if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) else []
            joined = node.elts if isinstance(node, ast.List | ast.Tuple) else joined
            if len(joined) == 2 and _around(joined[0], joined[1], depending):
                return True
    return False


def _around(first: ast.expr, second: ast.expr, depending: set[str]) -> bool:
    """`x[:start]` and `x[end:]`, both of the fold's number."""
    if not isinstance(first, ast.Subscript) or not isinstance(second, ast.Subscript):
        return False
    head, tail = first.slice, second.slice
    if not isinstance(head, ast.Slice) or not isinstance(tail, ast.Slice):
        return False
    if head.lower or tail.upper or head.upper is None or tail.lower is None:
        return False
    same = ast.unparse(first.value) == ast.unparse(second.value)
    return same and bool(used(head.upper) & depending) and bool(used(tail.lower) & depending)


def _leaves(loop: ast.For) -> bool:
    """It may be left early, after the first fold for example."""
    inner = {id(each) for statement in statements(loop.body) if isinstance(statement, LOOPS)
             for each in statements(statement.body)}  # fmt: skip
    return any(isinstance(each, ast.Break) and id(each) not in inner for each in statements(loop.body))


def _trains_on(name: str, loop: ast.For, body: list[ast.stmt], functions: dict[str, ast.FunctionDef]) -> bool:
    """The loop trains that model and never sets it back: by itself, or in a function of the file that is given it."""
    optimized = _optimized(name, loop, body)
    if _trains(loop.body):
        return _is_the_model(name, loop.body, optimized) and _applied(name, loop.body)
    if not _is_the_model(name, loop.body, True):
        return False
    for call in _calls(loop.body):
        function = functions.get(call.func.id) if isinstance(call.func, ast.Name) else None
        own = _parameter(function, call, name) if function is not None else ""
        if function is None or not own or not _trains(function.body):
            continue
        if _applied(own, function.body) and _is_the_model(own, function.body, optimized):
            return True
    return False


def _parameter(function: ast.FunctionDef, call: ast.Call, name: str) -> str:
    """What the function calls the argument."""
    places = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
    for own, given in zip(places, call.args, strict=False):
        if isinstance(given, ast.Name) and given.id == name:
            return own
    return next((k.arg for k in call.keywords if k.arg and isinstance(k.value, ast.Name) and k.value.id == name), "")


def _calls(body: list[ast.stmt]) -> list[ast.Call]:
    return [node for inner in body for node in ast.walk(inner) if isinstance(node, ast.Call)]


def _optimized(name: str, loop: ast.For, body: list[ast.stmt]) -> bool:
    """Something built from its parameters steps in the loop, or is handed on there."""
    stepping = {ast.unparse(call.func.value) for call in _calls(loop.body)
                if isinstance(call.func, ast.Attribute) and call.func.attr == "step"}  # fmt: skip
    stepping |= {ast.unparse(each) for call in _calls(loop.body) for each in call.args}
    built = (each for each in statements(body) if isinstance(each, ast.Assign) and isinstance(each.value, ast.Call))
    return any(f"{name}.parameters()" in ast.unparse(each.value) and stepping & {*assigned(each)} for each in built)


def _applied(name: str, body: list[ast.stmt]) -> bool:
    return any(isinstance(call.func, ast.Name) and call.func.id == name for call in _calls(body))


def _trains(body: list[ast.stmt]) -> bool:
    """There is a step of training in it."""
    called = {call.func.attr for call in _calls(body) if isinstance(call.func, ast.Attribute)}
    return {"backward", "step"} <= called


def _is_the_model(name: str, body: list[ast.stmt], optimized: bool) -> bool:
    """It is put into training mode or its parameters are optimized, and nothing there sets it back."""
    return kept(name, body) and (optimized or bool(_methods(name, body) & {"train", "parameters"}))


def kept(name: str, body: list[ast.stmt]) -> bool:
    """Nothing there builds that model anew or sets its weights back."""
    calls = _calls(body)
    bound = {each for statement in statements(body) for each in assigned(statement)}
    if any(each.partition(".")[0] == name for each in bound):
        return False
    given = [call for call in calls if any(name in used(each) for each in call.args)]
    names = {ast.unparse(call.func).lower() for call in given}
    anew = any(word in each for each in names for word in ANEW)
    looped = any(isinstance(node, ast.For) and name in used(node.iter) for inner in body for node in ast.walk(inner))
    return _methods(name, body) <= set(HARMLESS) and not anew and not looped


def _methods(name: str, body: list[ast.stmt]) -> set[str]:
    return {
        call.func.attr
        for call in _calls(body)
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value).partition(".")[0] == name
    }
