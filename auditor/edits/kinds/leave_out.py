"""LEAVE_OUT: a call that only transforms its input gives way to the input."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from auditor.edits.arguments import removed
from auditor.edits.blocks import block_of, statements, without
from auditor.edits.changes import Change, NoEdit
from auditor.edits.imports import dotted, full_name
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind

_ATOMS = (cst.Name, cst.Attribute, cst.Call, cst.Subscript, cst.Integer, cst.Float)
_ALONE = (cst.Assign, cst.AnnAssign, cst.Return, cst.Expr, cst.Arg)  # an expression there needs no parentheses


@writes(RemedyKind.LEAVE_OUT)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    """The function, method or module that the subject names, as `softmax` names nn.Softmax too."""
    wanted = _plain(remedy.subject)
    if not wanted:
        raise NoEdit("which function it is is not known")
    found = [
        (call, value) for call in source.calls_at(site.line) if (value := _input(source, call, wanted)) is not None
    ]
    if len(found) == 1:
        return _replaced(source, *found[0])
    if found:
        raise NoEdit(f"{remedy.subject} is called {len(found)} times in line {site.line}")
    last = list(_last_modules(source, site.line, wanted))
    if len(last) == 1:
        return removed(source, *last[0])
    raise NoEdit(f"no call of {remedy.subject} that could be left out stands in line {site.line}")


def _plain(name: str) -> str:
    """'logsoftmax' for log_softmax and nn.LogSoftmax."""
    return name.rpartition(".")[2].replace("_", "").lower()


def _input(source: Parsed, call: cst.Call, wanted: str) -> cst.BaseExpression | None:
    """What the call transforms, None where it is not a call of the wanted function."""
    name = full_name(source, call.func)
    if name:
        is_it = name.startswith("torch.") and name.rpartition(".")[2][:1].islower() and _plain(name) == wanted
        return _first(call) if is_it else None
    if isinstance(call.func, cst.Call):  # nn.Softmax(dim=1)(x)
        return _first(call) if _is_module(source, call.func, wanted) else None
    if _is_module(source, _definition(source, dotted(call.func)), wanted):
        return _first(call)
    if isinstance(call.func, cst.Attribute) and _plain(call.func.attr.value) == wanted:
        if isinstance(call.func.value, cst.Name) and call.func.value.value == "self":
            return None  # a module or method that is not defined by a plain nn.Softmax(...)
        return call.func.value
    return None


def _first(call: cst.Call) -> cst.BaseExpression | None:
    """Its input: the first argument, or the one called input."""
    for place, arg in enumerate(call.args):
        if not arg.star and ((arg.keyword is None and place == 0) or (arg.keyword and arg.keyword.value == "input")):
            return arg.value
    return None


def _is_module(source: Parsed, value: cst.BaseExpression | None, wanted: str) -> bool:
    """Whether an expression is `nn.Softmax(...)` of torch."""
    if not isinstance(value, cst.Call):
        return False
    name = full_name(source, value.func)
    return name.startswith("torch.nn.") and name.rpartition(".")[2][:1].isupper() and _plain(name) == wanted


def _definition(source: Parsed, name: str) -> cst.BaseExpression | None:
    """What the only assignment to that variable or attribute assigns."""
    values = [
        assign.value
        for assign in source.every(cst.Assign)
        for target in assign.targets
        if name and dotted(target.target) == name
    ]
    return values[0] if len(values) == 1 else None


def _last_modules(source: Parsed, line: int, wanted: str) -> Iterator[tuple[cst.Call, cst.Arg]]:
    """nn.Sequential calls that end with the wanted module: around the line, or called in it by name."""
    around = [call for call in source.calls_around(line) if full_name(source, call.func) == "torch.nn.Sequential"]
    named = [_definition(source, dotted(call.func)) for call in source.calls_at(line)]
    for call in dict.fromkeys([*around, *(each for each in named if isinstance(each, cst.Call))]):
        if full_name(source, call.func) != "torch.nn.Sequential" or not call.args:
            continue
        modules = [arg for arg in call.args if _is_module(source, arg.value, wanted)]
        if modules == [call.args[-1]]:
            yield call, call.args[-1]


def _replaced(source: Parsed, call: cst.Call, value: cst.BaseExpression) -> tuple[Change, ...]:
    text = source.code(value)
    statement = _assignment_to_itself(source, call, text)
    if statement is not None:
        return (without(source, statement),)
    parent = source.parent(call)
    atom = isinstance(value, _ATOMS) or bool(getattr(value, "lpar", ()))
    if not atom and (not isinstance(parent, _ALONE) or ("\n" in text and not isinstance(parent, cst.Arg))):
        text = f"({text})"
    return (source.replaced(call, text),)


def _assignment_to_itself(source: Parsed, call: cst.Call, text: str) -> cst.SimpleStatementLine | None:
    """The statement, where `x = softmax(x)` would become `x = x` and can go as a whole."""
    assign = source.parent(call)
    statement = source.parent(assign) if isinstance(assign, cst.Assign) else None
    if not isinstance(assign, cst.Assign) or not isinstance(statement, cst.SimpleStatementLine):
        return None
    same = len(assign.targets) == 1 and dotted(assign.targets[0].target) == text
    alone = len(statement.body) == 1 and len(statements(block_of(source, statement))) > 1
    return statement if same and alone else None
