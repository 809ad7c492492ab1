"""SIGMOID, SOFTMAX_AXIS: another operation, or another axis, where a softmax is applied."""

from __future__ import annotations

import re

import libcst as cst

from auditor.edits.arguments import added, argument
from auditor.edits.changes import Change, NoEdit
from auditor.edits.imports import name_for
from auditor.edits.operations import Applied, applied_at, argument_input, plain
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind

_POSITIONS = {"function": 1, "method": 0, "module": 0}  # of the axis
_WHOLE = re.compile(r"-?\d+")


@writes(RemedyKind.SIGMOID)
def write_sigmoid(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    """`torch.sigmoid(x)`, `x.sigmoid()` or `nn.Sigmoid()`, as the softmax is written."""
    applied = applied_at(source, site.line, "softmax")
    call = applied.call
    if applied.kind == "module":
        return (source.replaced(call, f"{name_for(source, 'torch.nn.Sigmoid')}()"),)
    if applied.kind == "method" and isinstance(call.func, cst.Attribute):
        return (source.replaced(call, f"{source.code(call.func.value)}.sigmoid()"),)
    value = argument_input(call)
    if value is None:
        raise NoEdit("what the softmax is taken of is not certain")
    return (source.replaced(call, f"{name_for(source, 'torch.sigmoid')}({source.code(value)})"),)


@writes(RemedyKind.SOFTMAX_AXIS)
def write_axis(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    """The number that names the axis."""
    if remedy.amount is None or not float(remedy.amount).is_integer():
        raise NoEdit("the axis is not known")
    applied = applied_at(source, site.line, plain(remedy.subject) or "softmax")
    axis = str(int(remedy.amount))
    given = _axis(applied)
    if given is None:
        return added(source, applied.call, f"dim={axis}")
    if not _WHOLE.fullmatch(source.code(given.value)):
        raise NoEdit(f"the axis is decided by `{source.code(given.value)}`")
    if source.code(given.value) == axis:
        raise NoEdit(f"it runs along axis {axis} already")
    return (source.replaced(given.value, axis),)


def _axis(applied: Applied) -> cst.Arg | None:
    named = argument(applied.call, "axis")  # which numpy calls it, and torch accepts
    return named if named is not None else argument(applied.call, "dim", _POSITIONS[applied.kind])
