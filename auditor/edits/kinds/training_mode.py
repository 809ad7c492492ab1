"""TRAINING_MODE: the model is put into training mode where every epoch, or every step, begins."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from auditor.edits.blocks import Loop, block_of, check_known, inserted_before, loops_around, method, statements
from auditor.edits.changes import Change, NoEdit
from auditor.edits.imports import dotted
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind


@writes(RemedyKind.TRAINING_MODE)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    """At the top of the epoch; where the model is switched to evaluation below that, as late as is needed."""
    place = _innermost(source, site.line)
    loops = [loop for loop in loops_around(source, place) if _in_body(source, loop, place)]
    if not loops:
        raise NoEdit(f"line {site.line} is in no loop of its function")
    batches = loops[0]
    model = remedy.subject or _model_in(source, batches)
    check_known(source, model, place)
    code = f"{model}.train()"
    if any(source.code(call) == code for call in source.inside(batches.body, cst.Call)):
        raise NoEdit("train() is called in this loop already")
    before = _place(source, loops)
    if any(source.code(call) == code for each in _neighbours(source, before) for call in source.inside(each, cst.Call)):
        raise NoEdit("train() is called there already")
    return (inserted_before(source, before, code),)


def _model_in(source: Parsed, loop: Loop) -> str:
    """The one name that is called in the loop, and that the file treats as a model; '' when that is not certain."""
    known = {owner for owner, name in map(method, source.every(cst.Call)) if name in ("train", "eval", "parameters")}
    called = {dotted(call.func) for call in source.inside(loop.body, cst.Call)} & known
    return called.pop() if len(called) == 1 else ""


def _place(source: Parsed, loops: Sequence[Loop]) -> cst.BaseStatement:
    """The statement before which the model is to be in training mode."""
    batches = loops[0]
    if _evaluates(source, batches.body):  # in the midst of an epoch
        return _first(batches)
    if len(loops) == 1 or not isinstance(loops[1].body, cst.IndentedBlock):
        return batches
    epoch = statements(loops[1].body)
    around = next(n for n, each in enumerate(epoch) if each is batches or each in source.above(batches))
    return epoch[around] if any(_evaluates(source, each) for each in epoch[:around]) else epoch[0]


def _neighbours(source: Parsed, statement: cst.BaseStatement) -> Sequence[cst.BaseStatement]:
    """The simple statements on both sides of a place between two."""
    block = statements(block_of(source, statement))
    place = block.index(statement)
    return [each for each in block[max(0, place - 1) : place + 1] if isinstance(each, cst.SimpleStatementLine)]


def _innermost(source: Parsed, line: int) -> cst.BaseSmallStatement | cst.BaseStatement:
    kinds = [*source.every(cst.SimpleStatementLine), *source.every(cst.For), *source.every(cst.While)]
    found = [each for each in kinds if source.lines(each)[0] <= line <= source.lines(each)[1]]
    if not found:
        raise NoEdit(f"line {line} is not a statement")
    return min(found, key=lambda each: source.span(each)[1] - source.span(each)[0])


def _in_body(source: Parsed, loop: Loop, place: cst.CSTNode) -> bool:
    return loop.body in source.above(place)


def _first(loop: Loop) -> cst.BaseStatement:
    if not isinstance(loop.body, cst.IndentedBlock):
        raise NoEdit("the loop's body shares its line")
    return statements(loop.body)[0]


def _evaluates(source: Parsed, node: cst.CSTNode) -> bool:
    """Whether code calls eval() of a model, itself or through a function of this file."""
    switching = {
        function.name.value
        for function in source.every(cst.FunctionDef)
        if any(_is_eval(call) for call in source.inside(function, cst.Call))
    }
    return any(
        _is_eval(call) or dotted(call.func).rpartition(".")[2] in switching for call in source.inside(node, cst.Call)
    )


def _is_eval(call: cst.Call) -> bool:
    """`model.eval()`, and `model.train(False)`."""
    if not isinstance(call.func, cst.Attribute):
        return False
    name = call.func.attr.value
    return (name == "eval" and not call.args) or (name == "train" and bool(call.args))
