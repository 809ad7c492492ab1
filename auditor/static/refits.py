"""A last training on everything, the test data included, after which these very data are evaluated once more."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from auditor.evidence import Location, Refit
from auditor.static.names import LOOPS, assigned, scopes, statements, used
from auditor.static.reductions import bindings

JOINING = ("ConcatDataset", "cat", "concat", "concatenate", "vstack", "hstack", "row_stack", "chain")
DATA_SETS = ("ConcatDataset", "chain")
TEST = ("test", "tests", "testing", "heldout", "holdout", "unseen", "te", "tst")
TRAIN = ("train", "training", "trn", "tr", "fit")
LOADERS = ("DataLoader", "TensorDataset")
STEPS = {"backward", "step"}
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def refits(path: str, tree: ast.Module) -> Iterator[Refit]:
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, _Function)}
    trainers = {name for name, node in functions.items() if _trains(node, functions)}
    for body in scopes(tree):
        yield from _Reading(path, trainers).read(body)


def _trains(function: ast.AST, functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef], deep: int = 2) -> bool:
    """There are steps of training in a loop of it, or of what it calls."""
    called = {_name(node) for node in ast.walk(function) if isinstance(node, ast.Call)}
    loops = [node for node in ast.walk(function) if isinstance(node, LOOPS)]
    inner = {_name(node) for loop in loops for node in ast.walk(loop) if isinstance(node, ast.Call)}
    if inner >= STEPS:
        return True
    others = [functions[name] for name in called if name in functions and functions[name] is not function]
    return deep > 0 and any(_trains(other, functions, deep - 1) for other in others)


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


@dataclass(frozen=True)
class _Join:
    test: str  # the variable of the test data
    line: int
    of_data_sets: bool  # samples with their targets


class _Reading:
    """One scope, statement by statement."""

    def __init__(self, path: str, trainers: set[str]) -> None:
        self._path, self._trainers = path, trainers
        self._joined: dict[str, list[_Join]] = {}  # by variable
        self._trained: tuple[str, int, int] | None = None  # by the latest training: test data, line of the join, line
        self._models: set[str] = set()  # that the latest training returned or was given

    def read(self, body: list[ast.stmt]) -> Iterator[Refit]:
        for statement in statements(body):
            if isinstance(statement, LOOPS) and {_name(call) for call in _calls(statement)} >= STEPS:
                over = [loop.iter for loop in ast.walk(statement) if isinstance(loop, ast.For | ast.AsyncFor)]
                self._train(over, used(statement), statement.lineno)
            for call in _own_calls(statement):
                if _name(call) in self._trainers:
                    given = [*call.args, *(word.value for word in call.keywords)]
                    self._train(given, {*assigned(statement), *used(call)}, call.lineno)
                elif self._trained is not None and self._evaluates(call, self._trained[0]):
                    test, joined, line = self._trained
                    yield Refit(
                        data=test,
                        joined=Location(file=self._path, line=joined),
                        location=Location(file=self._path, line=line),
                        evaluated=Location(file=self._path, line=call.lineno),
                    )
                    return
            self._assign(statement)

    def _train(self, given: list[ast.expr], models: set[str], line: int) -> None:
        joins = [found for each in given for found in self._holds(each)]
        tests = {each.test for each in joins}
        # Inputs alone, without their targets, may be learned from as they are given.
        labelled = len(tests) > 1 or any(each.of_data_sets for each in joins)
        # Where the test data are given apart as well, it is not known what becomes of them.
        apart = any(isinstance(each, ast.Name) and each.id in tests for each in given)
        self._trained = (joins[0].test, joins[0].line, line) if labelled and not apart else None
        self._models = models - self._joined.keys() - self._trainers

    def _evaluates(self, call: ast.Call, test: str) -> bool:
        """`error(model, test)`, by the model that was trained. A probe that is given the training data, too, may train
        a model of its own."""
        given = [*call.args, *(word.value for word in call.keywords)]
        owner = used(call.func.value) if isinstance(call.func, ast.Attribute) else set[str]()
        read = {name for each in given for name in used(each)} | owner
        if _name(call) in JOINING or test not in read or any(_says(name, TRAIN) for name in read):
            return False
        called = {call.func.id} if isinstance(call.func, ast.Name) else set[str]()
        return bool(self._models & (read | called)) and _name(call) not in (*LOADERS, "len", "print")

    def _assign(self, statement: ast.stmt) -> None:
        for names, value in bindings(statement):
            held = self._holds(value)
            for name in names:
                self._joined.pop(name, None)
                if self._trained is not None and name == self._trained[0]:
                    self._trained = None  # other data of that name
                if held:
                    self._joined[name] = held

    def _holds(self, value: ast.expr) -> list[_Join]:
        """The test data that it joins with those of training, or that a variable in it holds."""
        if isinstance(value, ast.Name):
            return self._joined.get(value.id, [])
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
            return _joined(_summands(value), value.lineno, of_data_sets=True)
        if not isinstance(value, ast.Call):
            return []
        if _name(value) in JOINING:
            first = value.args[0] if value.args else None
            parts = first.elts if isinstance(first, ast.List | ast.Tuple) else value.args
            return _joined(parts, value.lineno, of_data_sets=_name(value) in DATA_SETS)
        if _name(value) in LOADERS:
            return [found for each in value.args for found in self._holds(each)]
        return []


def _calls(node: ast.AST) -> list[ast.Call]:
    return [each for each in ast.walk(node) if isinstance(each, ast.Call)]


def _own_calls(statement: ast.stmt) -> Iterator[ast.Call]:
    """Calls of the statement itself, not those of statements in it, in the order in which they run."""
    if isinstance(statement, _Function | ast.ClassDef):
        return
    parts = [child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.expr)]
    found = [call for part in parts for call in _calls(part)]
    yield from sorted(found, key=lambda call: (call.end_lineno or 0, call.end_col_offset or 0))


def _summands(value: ast.expr) -> list[ast.expr]:
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
        return [*_summands(value.left), *_summands(value.right)]
    return [value]


def _joined(parts: list[ast.expr], line: int, of_data_sets: bool) -> list[_Join]:
    """Plain variables: of training data, and of test data."""
    names = [each.id for each in parts if isinstance(each, ast.Name)]
    tests = [name for name in names if _says(name, TEST) and not _says(name, TRAIN)]
    if len(names) != len(parts) or len(tests) != 1 or not any(_says(name, TRAIN) for name in names):
        return []
    return [_Join(tests[0], line, of_data_sets)]


def _says(name: str, wanted: tuple[str, ...]) -> bool:
    return any(part in wanted for part in name.lower().split("_"))
