"""Cross-validation whose folds all train one model: from the second fold on it knows what it is tested on."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from auditor.evidence import FoldLoop, Location
from auditor.static.names import assigned, scopes, statements, used

SPLITTERS = ("KFold", "ShuffleSplit", "LeaveOneOut", "LeaveOneGroupOut")
SPLITTER_NAMES = ("kf", "skf", "gkf", "kfold", "folds", "cv", "splitter")
HARMLESS = ("train", "eval", "parameters", "named_parameters", "zero_grad", "state_dict", "forward", "to")
ANEW = ("init", "reset", "fresh", "restore", "load", "copy", "clone", "build", "make", "create", "rewind")


def fold_loops(path: str, tree: ast.Module) -> Iterator[FoldLoop]:
    if "TimeSeriesSplit" in used(tree):
        return  # each fold is tested on what comes after all that was trained on
    for body in scopes(tree):
        before: dict[str, ast.Assign] = {}
        for statement in statements(body):
            if isinstance(statement, ast.For) and _is_over_folds(statement) and _trains(statement):
                for name, made in before.items():
                    if _is_the_model(name, statement):
                        yield FoldLoop(
                            model=name,
                            built=Location(file=path, line=made.lineno),
                            location=Location(file=path, line=statement.lineno),
                        )
            elif isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
                before.update((name, statement) for name in assigned(statement))


def _is_over_folds(loop: ast.For) -> bool:
    """`for train, test in kf.split(x)`, or one that leaves the part of its own number out: `if i != fold`."""
    for node in ast.walk(loop.iter):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "split":
            owner = ast.unparse(node.func.value)
            if owner.lower() in SPLITTER_NAMES or any(name in owner for name in SPLITTERS):
                return True
    numbers = {each for each in assigned(loop) if each.isidentifier()}
    return any(
        isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.NotEq) and bool(used(test) & numbers)
        for node in ast.walk(loop)
        if isinstance(node, ast.comprehension)
        for test in node.ifs
    )


def _trains(loop: ast.For) -> bool:
    """There is a loop with a step of training in it."""
    called = {
        node.func.attr
        for inner in loop.body
        for node in ast.walk(inner)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    return {"backward", "step"} <= called


def _is_the_model(name: str, loop: ast.For) -> bool:
    """It is called and put into training mode in the loop, and nothing there sets it back."""
    calls = [node for inner in loop.body for node in ast.walk(inner) if isinstance(node, ast.Call)]
    bound = {each for statement in statements(loop.body) for each in assigned(statement)}
    if any(each.partition(".")[0] == name for each in bound):
        return False
    applied = any(isinstance(call.func, ast.Name) and call.func.id == name for call in calls)
    methods = {
        call.func.attr
        for call in calls
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value).partition(".")[0] == name
    }
    given = [call for call in calls if any(name in used(each) for each in call.args)]
    names = {ast.unparse(call.func).lower() for call in given}
    anew = any(word in each for each in names for word in ANEW)
    looped = any(
        isinstance(node, ast.For) and name in used(node.iter) for inner in loop.body for node in ast.walk(inner)
    )
    return applied and "train" in methods and methods <= set(HARMLESS) and not anew and not looped
