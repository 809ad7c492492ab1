"""EVALUATION_MODE: the model is switched before it is evaluated, and back afterwards."""

from __future__ import annotations

import libcst as cst

from auditor.edits.blocks import block_of, check_known, inserted_before, loops_around, statements
from auditor.edits.changes import Change, NoEdit
from auditor.edits.imports import dotted
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind


@writes(RemedyKind.EVALUATION_MODE)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    """`model.eval()` before the loop of the evaluation, or before its statement, and `model.train()` behind it."""
    if any(each.name.value in ("train", "eval") for each in source.every(cst.FunctionDef) if _is_method(source, each)):
        raise NoEdit("a class of this file has a train() or eval() of its own")
    call = _model_call(source, site.line)
    model = dotted(call.func)
    check_known(source, model, call)
    around = _evaluation(source, call)
    if any(source.code(each) in (f"{model}.eval()", f"{model}.train()") for each in _calls_near(source, around)):
        raise NoEdit("the mode is switched there already")
    block = statements(block_of(source, around))
    behind = block[block.index(around) + 1 :]
    if not behind or (isinstance(around, cst.SimpleStatementLine) and isinstance(around.body[0], cst.Return)):
        raise NoEdit("nothing follows the evaluation in its block: where training goes on is for you to say")
    return inserted_before(source, around, f"{model}.eval()"), inserted_before(source, behind[0], f"{model}.train()")


def _is_method(source: Parsed, function: cst.FunctionDef) -> bool:
    return any(isinstance(each, cst.ClassDef) for each in source.above(function))


def _model_call(source: Parsed, line: int) -> cst.Call:
    """The one call in that line of a name that the file treats as a model."""
    models = {
        dotted(each.func.value)
        for each in source.every(cst.Call)
        if isinstance(each.func, cst.Attribute)
        and each.func.attr.value in ("parameters", "train", "eval", "state_dict")
    }
    called = [call for call in source.calls_at(line) if dotted(call.func)]
    found = [call for call in called if dotted(call.func) in models] or _of_a_parameter(source, called)
    if len(found) != 1:
        raise NoEdit(f"which call in line {line} is that of the model is not certain")
    return found[0]


def _of_a_parameter(source: Parsed, called: list[cst.Call]) -> list[cst.Call]:
    """Calls of what the function around them is given: `def evaluate(net, loader)`."""
    found = []
    for call in called:
        function = next((each for each in source.above(call) if isinstance(each, cst.FunctionDef)), None)
        names = {each.name.value for each in function.params.params} if function is not None else set()
        if dotted(call.func) in names:
            found.append(call)
    return found


def _evaluation(source: Parsed, call: cst.Call) -> cst.BaseStatement:
    """The outermost loop around the call that does not train, with the `with` around it; else the call's statement."""
    found: cst.BaseStatement | None = None
    for loop in loops_around(source, call):
        if any(_name(each) == "backward" for each in source.inside(loop, cst.Call)):
            break
        found = loop
    if found is None:
        above = source.above(call)
        found = next(each for each in above if isinstance(each, cst.SimpleStatementLine | cst.BaseCompoundStatement))
    parent = next((each for each in source.above(found) if isinstance(each, cst.BaseCompoundStatement)), None)
    alone = isinstance(parent, cst.With) and block_of(source, found) is parent.body
    return parent if alone and isinstance(parent, cst.With) else found


def _name(call: cst.Call) -> str:
    return call.func.attr.value if isinstance(call.func, cst.Attribute) else ""


def _calls_near(source: Parsed, statement: cst.BaseStatement) -> list[cst.Call]:
    """In the statement, and in those before it in its block."""
    block = statements(block_of(source, statement))
    return [call for each in block[: block.index(statement) + 1] for call in source.inside(each, cst.Call)]
