"""DIVIDE_LOSS: the loss of one of several backward passes counts as its share of the update."""

from __future__ import annotations

import libcst as cst

from auditor.edits.blocks import called, method, statement_at
from auditor.edits.changes import Change, NoEdit
from auditor.edits.literals import number
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind


@writes(RemedyKind.DIVIDE_LOSS)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    """`loss.backward()` becomes `(loss / 4).backward()`; with a scaler, what it is given is divided."""
    if not remedy.amount or remedy.amount <= 1:
        raise NoEdit("the divisor is not known")
    call = called(statement_at(source, site.line))
    if call is None or not isinstance(call.func, cst.Attribute) or call.func.attr.value != "backward":
        raise NoEdit(f"line {site.line} is not a call of backward()")
    if any(arg.keyword is None for arg in call.args):
        raise NoEdit("backward() is given something that may be the loss or a gradient")
    loss = call.func.value
    scaled = isinstance(loss, cst.Call) and method(loss)[1] == "scale" and len(loss.args) == 1
    if isinstance(loss, cst.Call) and scaled:
        loss = loss.args[0].value
    if _is_divided(loss):
        raise NoEdit("the loss is divided already")
    amount = str(int(remedy.amount)) if float(remedy.amount).is_integer() else number(remedy.amount)
    atom = isinstance(loss, cst.Name | cst.Attribute | cst.Call | cst.Subscript) or bool(loss.lpar)
    text = f"{source.code(loss) if atom else f'({source.code(loss)})'} / {amount}"
    return (source.replaced(loss, text if scaled else f"({text})"),)


def _is_divided(loss: cst.BaseExpression) -> bool:
    return isinstance(loss, cst.BinaryOperation) and isinstance(loss.operator, cst.Divide)
