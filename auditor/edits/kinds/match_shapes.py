"""MATCH_SHAPES: the target of a loss gets the shape of the prediction, so that neither spreads over the other."""

from __future__ import annotations

import libcst as cst

from auditor.edits.changes import Change, NoEdit
from auditor.edits.imports import dotted, full_name
from auditor.edits.operations import definition
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind

_FUNCTIONS = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits")
_MODULES = ("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCEWithLogitsLoss")
_CHANGED = ("view_as", "reshape_as", "squeeze", "unsqueeze", "view", "reshape", "flatten")


@writes(RemedyKind.MATCH_SHAPES)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    """`y.view_as(prediction)`; where the prediction has no name, the axes that are lacking."""
    prediction, target = _pair(source, site.line)
    name = dotted(target)
    if not name:
        raise NoEdit("the target has no name in that line")
    if dotted(prediction):
        return (source.replaced(target, f"{name}.view_as({dotted(prediction)})"),)
    if remedy.amount == 1:
        return (source.replaced(target, f"{name}.unsqueeze(-1)"),)
    if remedy.amount == -1:
        return (source.replaced(target, f"{name}.squeeze(-1)"),)
    raise NoEdit("the prediction has no name in that line")


def _pair(source: Parsed, line: int) -> tuple[cst.BaseExpression, cst.BaseExpression]:
    """Prediction and target of the loss in a line."""
    found = [_given(call) for call in source.calls_at(line) if _is_loss(source, call)]
    if not found:
        found = [_ordered(each) for each in source.every(cst.BinaryOperation) if _is_difference(source, each, line)]
    if len(found) != 1:
        raise NoEdit(f"line {line} does not hold one loss of torch, or one difference")
    for each in found[0]:
        if isinstance(each, cst.Call) and dotted(each.func).rpartition(".")[2] in _CHANGED:
            raise NoEdit("the shapes are changed in that line already")
    return found[0]


def _is_loss(source: Parsed, call: cst.Call) -> bool:
    name = full_name(source, call.func)
    if name.startswith("torch.nn.functional."):
        return name.rpartition(".")[2] in _FUNCTIONS
    built = definition(source, dotted(call.func))
    made = full_name(source, built.func) if isinstance(built, cst.Call) else ""
    return made.startswith("torch.nn.") and made.rpartition(".")[2] in _MODULES


def _given(call: cst.Call) -> tuple[cst.BaseExpression, cst.BaseExpression]:
    if any(arg.star for arg in call.args):
        raise NoEdit("* arguments may hold the target")
    named = {arg.keyword.value: arg.value for arg in call.args if arg.keyword is not None}
    places = [arg.value for arg in call.args if arg.keyword is None]
    both = [*places[:2], *(named[each] for each in ("input", "target")[len(places) :] if each in named)]
    if len(both) != 2:
        raise NoEdit("what the loss is given is not certain")
    return both[0], both[1]


def _is_difference(source: Parsed, node: cst.BinaryOperation, line: int) -> bool:
    first, last = source.lines(node)
    return first <= line <= last and isinstance(node.operator, cst.Subtract)


def _ordered(node: cst.BinaryOperation) -> tuple[cst.BaseExpression, cst.BaseExpression]:
    """Which one is the target makes no difference where both have names; else it is the one with a name."""
    return (node.right, node.left) if dotted(node.left) and not dotted(node.right) else (node.left, node.right)
