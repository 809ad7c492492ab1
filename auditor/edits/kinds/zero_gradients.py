"""ZERO_GRADIENTS: the gradients are reset right before backward() gathers new ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import libcst as cst

from auditor.edits.blocks import (
    block_of,
    called,
    check_known,
    inserted_before,
    method,
    statement_at,
    statements,
    without,
)
from auditor.edits.changes import Change, NoEdit
from auditor.edits.imports import dotted, full_name
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind


@writes(RemedyKind.ZERO_GRADIENTS)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    """A call that is there but between backward() and step() is moved; else one is added."""
    backward = statement_at(source, site.line)
    if method_name(called(backward)) != "backward":
        raise NoEdit(f"line {site.line} is not a call of backward()")
    block = block_of(source, backward)
    if sum(method_name(call) == "backward" for call in source.inside(block, cst.Call)) > 1:
        raise NoEdit("backward() is called several times in this block")
    there = statements(block)
    here = there.index(backward)
    optimizer, step = _stepped(source, there[here + 1 :], remedy.subject)
    misplaced = [each for each in there[here + 1 :][:step] if method_name(called(each)) == "zero_grad"]
    if len(misplaced) == 1:
        line = source.line_text(source.lines(misplaced[0])[0]).strip()
        return inserted_before(source, backward, line), without(source, misplaced[0])
    if any(method_name(call) == "zero_grad" for each in there for call in source.inside(each, cst.Call)):
        raise NoEdit("zero_grad() is called in this block already")
    check_known(source, optimizer, backward)
    return (inserted_before(source, backward, f"{optimizer}.zero_grad()"),)


def method_name(call: cst.Call | None) -> str:
    """'backward' of `scaler.scale(loss).backward()`."""
    return call.func.attr.value if call is not None and isinstance(call.func, cst.Attribute) else ""


def _stepped(source: Parsed, later: Sequence[cst.BaseStatement], subject: str) -> tuple[str, int]:
    """The optimizer that is stepped in these statements, and which of them does it."""
    steps = [(name, place) for place, each in enumerate(later) for name in _optimizers(source, called(each)) if name]
    if subject:
        steps = [(name, place) for name, place in steps if name == subject]
    if len(steps) != 1:
        what = f"{subject}.step()" if subject else "one optimizer's step()"
        raise NoEdit(f"{what} does not follow in this block")
    return steps[0]


def _optimizers(source: Parsed, call: cst.Call | None) -> Iterator[str]:
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
