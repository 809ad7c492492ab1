"""Statements that step an optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import libcst as cst

from auditor.edits.blocks import called, method, statement_at
from auditor.edits.changes import NoEdit
from auditor.edits.imports import dotted, full_name
from auditor.edits.parsed import Parsed

Step = tuple[str, cst.SimpleStatementLine]  # the optimizer's name, and the statement


def steps_in(source: Parsed, statements: Iterable[cst.BaseStatement]) -> list[Step]:
    """Of these statements themselves, in their order."""
    return [
        (name, each)
        for each in statements
        if isinstance(each, cst.SimpleStatementLine)
        for name in _stepped(source, called(each))
        if name
    ]


def step_at(source: Parsed, line: int) -> Step:
    """The one at a line, or the only one of the file where the line steps nothing. Raises NoEdit."""
    if any(method(call)[1] == "step" for call in source.calls_at(line)):
        found = steps_in(source, [statement_at(source, line)])
    else:
        found = steps_in(source, source.every(cst.SimpleStatementLine))
    if len(found) != 1:
        raise NoEdit(f"line {line} is not a call of step()")
    return found[0]


def _stepped(source: Parsed, call: cst.Call | None) -> Iterator[str]:
    """What a call of step() steps, unless it is a scheduler."""
    owner, name = method(call)
    if call is None or name != "step":
        return
    if len(call.args) == 1 and not call.args[0].star and "scaler" in owner:
        yield dotted(call.args[0].value)
    elif "sched" not in owner.lower() and not _is_scheduler(source, owner):
        yield owner


def _is_scheduler(source: Parsed, name: str) -> bool:
    for assign in source.every(cst.Assign):
        if any(dotted(target.target) == name for target in assign.targets) and isinstance(assign.value, cst.Call):
            built = full_name(source, assign.value.func) or dotted(assign.value.func)
            if "lr_scheduler" in built or built.endswith("LR"):
                return True
    return False
