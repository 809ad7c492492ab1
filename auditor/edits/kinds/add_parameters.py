"""ADD_PARAMETERS: the optimizer gets what it lacks, or the model learns of the layers that it keeps in a plain list."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from auditor.edits.blocks import block_of, method, statement_at, statements, without
from auditor.edits.changes import Change, NoEdit
from auditor.edits.imports import dotted, name_for
from auditor.edits.operations import calls_of
from auditor.edits.optimizers import constructed_at
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind


@writes(RemedyKind.ADD_PARAMETERS)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    """`subject` names what is left out: the class of a model, or 'Net.blocks' for a list of the class Net."""
    if "." in remedy.subject:
        return _registered(source, remedy.subject)
    call = constructed_at(source, site.line)
    if not call.args or call.args[0].keyword is not None or call.args[0].star:
        raise NoEdit("what the optimizer is given is not certain")
    given = call.args[0].value
    owner, name = method(given if isinstance(given, cst.Call) else None)
    if moved := _built_later(source, site.line, owner):
        return moved
    if name == "parameters" and remedy.subject not in _classes(source):
        return (source.replaced(given, f"{_whole(source, owner)}.parameters()"),)
    other = f"list({_variable(source, remedy.subject)}.parameters())"
    if name == "parameters":
        return (source.replaced(given, f"list({source.code(given)}) + {other}"),)
    if all(dotted(each.func) == "list" and len(each.args) == 1 for each in _summands(given)):
        return (source.replaced(given, f"{source.code(given)} + {other}"),)
    raise NoEdit("how the parameters are gathered leaves several ways")


def _classes(source: Parsed) -> set[str]:
    return {each.name.value for each in source.every(cst.ClassDef)}


def _whole(source: Parsed, part: str) -> str:
    """'model' of 'model.head', where the model is called as a whole."""
    owner = part.rpartition(".")[0]
    if owner in ("", "self") or not calls_of(source, owner):
        raise NoEdit("which model it is a part of is not certain")
    return owner


def _variable(source: Parsed, kind: str) -> str:
    """The only one that is assigned an object of the class. Raises NoEdit."""
    made = [target for target, value in _assigned(source) if isinstance(value, cst.Call) and dotted(value.func) == kind]
    built = calls_of(source, kind)
    if len(made) != 1 or len(built) != 1 or not made[0].isidentifier():
        raise NoEdit("what the missing parameters belong to has no certain name")
    return made[0]


def _assigned(source: Parsed) -> Iterator[tuple[str, cst.BaseExpression]]:
    """Names and what they are assigned, `a, b = A(), B()` taken apart."""
    for assign in source.every(cst.Assign):
        for target in assign.targets:
            left, right = target.target, assign.value
            if (
                isinstance(left, cst.Tuple)
                and isinstance(right, cst.Tuple)
                and len(left.elements) == len(right.elements)
            ):
                pairs = zip(left.elements, right.elements, strict=True)
                yield from ((dotted(one.value), other.value) for one, other in pairs)
            else:
                yield dotted(left), right


def _summands(given: cst.BaseExpression) -> list[cst.Call]:
    """The calls of `a() + b()`. Raises NoEdit for anything else."""
    if isinstance(given, cst.BinaryOperation) and isinstance(given.operator, cst.Add):
        return [*_summands(given.left), *_summands(given.right)]
    if isinstance(given, cst.Call):
        return [given]
    raise NoEdit("how the parameters are gathered leaves several ways")


def _built_later(source: Parsed, line: int, owner: str) -> tuple[Change, ...]:
    """The optimizer is built after the last replacement of a part of its model; () where none follows."""
    root = owner.partition(".")[0]
    statement = statement_at(source, line)
    there = statements(block_of(source, statement))
    here = there.index(statement)
    later = [place for place, each in enumerate(there) if place > here and _replaces_part(each, root)]
    if not root or root == "self" or not later:
        return ()
    assign = statement.body[0]
    name = dotted(assign.targets[0].target) if isinstance(assign, cst.Assign) else ""
    between = there[here + 1 : later[-1] + 1]
    if not name or any(each.value == name for one in between for each in source.inside(one, cst.Name)):
        raise NoEdit("the optimizer is used before the model is changed")
    first, last = source.lines(statement)
    text = source.text[source.line_span(first)[0] : source.line_span(last)[1]].rstrip("\r\n")
    after = source.lines(there[later[-1]])[1]
    end = source.line_span(after)[0] + len(source.line_text(after))
    return without(source, statement), Change(end, end, source.line_break(after) + text)


def _replaces_part(statement: cst.BaseStatement, model: str) -> bool:
    """`model.fc = nn.Linear(...)`."""
    only = statement.body[0] if isinstance(statement, cst.SimpleStatementLine) and len(statement.body) == 1 else None
    if not isinstance(only, cst.Assign) or not isinstance(only.value, cst.Call):
        return False
    return any(dotted(target.target).startswith(f"{model}.") for target in only.targets)


def _registered(source: Parsed, holder: str) -> tuple[Change, ...]:
    """`self.blocks = nn.ModuleList([...])` in the class that keeps them in a list."""
    kind, _, name = holder.rpartition(".")
    classes = [each for each in source.every(cst.ClassDef) if each.name.value == kind]
    if len(classes) != 1:
        raise NoEdit(f"the class {kind} is not in this file")
    values = [
        assign.value
        for assign in source.inside(classes[0], cst.Assign)
        if [dotted(target.target) for target in assign.targets] == [f"self.{name}"]
    ]
    if len(values) != 1 or not isinstance(values[0], cst.List | cst.ListComp):
        raise NoEdit(f"self.{name} is not one list that is written there")
    return (source.replaced(values[0], f"{name_for(source, 'torch.nn.ModuleList')}({source.code(values[0])})"),)
