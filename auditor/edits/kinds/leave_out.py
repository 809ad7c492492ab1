"""LEAVE_OUT: a call that only transforms its input gives way to the input."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from auditor.edits.arguments import removed
from auditor.edits.blocks import block_of, statements, without
from auditor.edits.changes import Change, NoEdit
from auditor.edits.imports import dotted, full_name
from auditor.edits.operations import (
    argument_input,
    calls_of,
    defined_name,
    definition,
    is_function,
    is_method,
    is_module,
    plain,
)
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind

_ATOMS = (cst.Name, cst.Attribute, cst.Call, cst.Subscript, cst.Integer, cst.Float)
_ALONE = (cst.Assign, cst.AnnAssign, cst.Return, cst.Expr, cst.Arg)  # an expression there needs no parentheses


@writes(RemedyKind.LEAVE_OUT)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    """The function, method or module that the subject names, as `softmax` names nn.Softmax too."""
    wanted = plain(remedy.subject)
    if not wanted:
        raise NoEdit("which function it is is not known")
    found = [
        (call, value) for call in source.calls_at(site.line) if (value := _input(source, call, wanted)) is not None
    ]
    if len(found) == 1:
        return _left_out(source, *found[0])
    if found:
        raise NoEdit(f"{remedy.subject} is called {len(found)} times in line {site.line}")
    last = list(_last_modules(source, site.line, wanted))
    if len(last) == 1:
        return removed(source, *last[0])
    built = [call for call in source.calls_at(site.line) if is_module(source, call, wanted)]
    uses = calls_of(source, defined_name(source, built[0])) if len(built) == 1 else []
    if len(uses) == 1 and (value := argument_input(uses[0])) is not None:
        return _left_out(source, uses[0], value)
    raise NoEdit(f"no call of {remedy.subject} that could be left out stands in line {site.line}")


def _input(source: Parsed, call: cst.Call, wanted: str) -> cst.BaseExpression | None:
    """What the call transforms, None where it is not a call of the wanted function."""
    name = full_name(source, call.func)
    if name:
        return argument_input(call) if is_function(name, wanted) else None
    if isinstance(call.func, cst.Call):  # nn.Softmax(dim=1)(x)
        return argument_input(call) if is_module(source, call.func, wanted) else None
    if is_module(source, definition(source, dotted(call.func)), wanted):
        return argument_input(call)
    if is_method(source, call, wanted) and isinstance(call.func, cst.Attribute):
        return call.func.value
    return None


def _last_modules(source: Parsed, line: int, wanted: str) -> Iterator[tuple[cst.Call, cst.Arg]]:
    """nn.Sequential calls that end with the wanted module: around the line, or called in it by name."""
    around = [call for call in source.calls_around(line) if full_name(source, call.func) == "torch.nn.Sequential"]
    named = [definition(source, dotted(call.func)) for call in source.calls_at(line)]
    for call in dict.fromkeys([*around, *(each for each in named if isinstance(each, cst.Call))]):
        if full_name(source, call.func) != "torch.nn.Sequential" or not call.args:
            continue
        modules = [arg for arg in call.args if is_module(source, arg.value, wanted)]
        if modules == [call.args[-1]]:
            yield call, call.args[-1]


def _left_out(source: Parsed, call: cst.Call, value: cst.BaseExpression) -> tuple[Change, ...]:
    return (*_replaced(source, call, value), *_unused_definition(source, call))


def _unused_definition(source: Parsed, call: cst.Call) -> tuple[Change, ...]:
    """The line that builds the module goes, where nothing else may use it."""
    name = dotted(call.func)
    value = definition(source, name)
    assign = source.parent(value) if value is not None else None
    last = name.rpartition(".")[2]
    uses = [each for each in source.every(cst.Name) if each.value == last and not _is_of_torch(source, each)]
    statement = source.parent(assign) if isinstance(assign, cst.Assign) else None
    if len(uses) != 2 or not isinstance(statement, cst.SimpleStatementLine) or len(statement.body) != 1:
        return ()
    return (without(source, statement),) if len(statements(block_of(source, statement))) > 1 else ()


def _is_of_torch(source: Parsed, name: cst.Name) -> bool:
    """`softmax` in `F.softmax`."""
    parent = source.parent(name)
    return isinstance(parent, cst.Attribute) and parent.attr is name and bool(full_name(source, parent))


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
