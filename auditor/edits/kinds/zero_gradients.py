"""ZERO_GRADIENTS: the gradients are reset once an update, and not before it has used them."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from auditor.edits.blocks import (
    block_of,
    called,
    check_known,
    inserted_after,
    inserted_before,
    statement_at,
    statements,
    without,
)
from auditor.edits.changes import Change, NoEdit
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.edits.updates import Step, steps_in
from auditor.evidence import Location, Remedy, RemedyKind


@writes(RemedyKind.ZERO_GRADIENTS)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    """Right before backward(), or behind the step where that is not made after every backward().

    A call that is there, but in a wrong place, is moved.
    """
    backward = _backward(source, site.line)
    block = block_of(source, backward)
    if sum(method_name(call) == "backward" for call in source.inside(block, cst.Call)) > 1:
        raise NoEdit("backward() is called several times in this block")
    there = statements(block)
    later = there[there.index(backward) + 1 :]
    steps = _of(remedy.subject, steps_in(source, later))
    if len(steps) == 1:
        return _each_time(source, there, backward, steps[0])
    sometimes = _of(remedy.subject, [step for each in later for step in _conditional(source, each)])
    if steps or len(sometimes) != 1:
        what = f"{remedy.subject}.step()" if remedy.subject else "one optimizer's step()"
        raise NoEdit(f"{what} does not follow in this block")
    return _with_the_step(source, there, sometimes[0])


def method_name(call: cst.Call | None) -> str:
    """'backward' of `scaler.scale(loss).backward()`."""
    return call.func.attr.value if call is not None and isinstance(call.func, cst.Attribute) else ""


def _backward(source: Parsed, line: int) -> cst.SimpleStatementLine:
    """The statement at the line, or the only one of its function where the line steps or resets."""
    at_site = statement_at(source, line)
    name = method_name(called(at_site))
    if name == "backward":
        return at_site
    scope = source.scope(at_site)
    each = [one for one in source.every(cst.SimpleStatementLine) if source.scope(one) is scope]
    found = [one for one in each if method_name(called(one)) == "backward"]
    if name not in ("step", "zero_grad") or len(found) != 1:
        raise NoEdit(f"line {line} is not a call of backward()")
    return found[0]


def _of(subject: str, steps: Sequence[Step]) -> list[Step]:
    return [step for step in steps if not subject or step[0] == subject]


def _conditional(source: Parsed, statement: cst.BaseStatement) -> list[Step]:
    """Steps in the body of `if (i + 1) % 8 == 0:`. Any other condition may skip a step whose gradients are bad."""
    if not isinstance(statement, cst.If) or not isinstance(statement.body, cst.IndentedBlock):
        return []
    if not source.inside(statement.test, cst.Modulo):
        return []
    return steps_in(source, statements(statement.body))


def _each_time(
    source: Parsed, there: Sequence[cst.BaseStatement], backward: cst.SimpleStatementLine, step: Step
) -> tuple[Change, ...]:
    optimizer, stepping = step
    between = there[there.index(backward) + 1 : there.index(stepping)]
    misplaced = [each for each in between if method_name(called(each)) == "zero_grad"]
    if len(misplaced) == 1:
        return inserted_before(source, backward, _text(source, misplaced[0])), without(source, misplaced[0])
    if any(_resets(source, each) for each in there):
        raise NoEdit("zero_grad() is called in this block already")
    check_known(source, optimizer, backward)
    return (inserted_before(source, backward, f"{optimizer}.zero_grad()"),)


def _with_the_step(source: Parsed, there: Sequence[cst.BaseStatement], step: Step) -> tuple[Change, ...]:
    """Gradients are gathered over several backward() calls: they are reset when a step has used them."""
    optimizer, stepping = step
    misplaced = [each for each in there if method_name(called(each)) == "zero_grad"]
    resets = [each for each in there if _resets(source, each)]
    if not resets:
        check_known(source, optimizer, stepping)
        return (inserted_after(source, stepping, f"{optimizer}.zero_grad()"),)
    if resets != misplaced or len(misplaced) != 1:
        raise NoEdit("zero_grad() is called in this block already")
    return inserted_after(source, stepping, _text(source, misplaced[0])), without(source, misplaced[0])


def _resets(source: Parsed, statement: cst.BaseStatement) -> bool:
    return any(method_name(call) == "zero_grad" for call in source.inside(statement, cst.Call))


def _text(source: Parsed, statement: cst.BaseStatement) -> str:
    return source.line_text(source.lines(statement)[0]).strip()
