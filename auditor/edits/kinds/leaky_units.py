"""LEAKY_UNITS: ReLU gives way to LeakyReLU, whose units cannot die."""

from __future__ import annotations

import libcst as cst

from auditor.edits.arguments import argument
from auditor.edits.changes import Change, NoEdit
from auditor.edits.imports import is_torch, name_for
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind

_SLOPE = "0.01"


@writes(RemedyKind.LEAKY_UNITS)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    """All ReLUs of the line; where the remedy names no layers, all of the class or function that the line is in."""
    known = [call for call in source.every(cst.Call) if is_torch(source, call.func, "ReLU", "relu", "relu_")]
    found = [call for call in known if call in source.calls_at(site.line)]
    if not found:
        raise NoEdit(f"no ReLU stands in line {site.line}")
    if not remedy.layers:
        if len({_outermost(source, call) for call in known}) > 1:
            raise NoEdit("ReLU is used in other classes or functions as well")
        found = known
    return tuple(change for call in found for change in _written(source, call))


def _outermost(source: Parsed, call: cst.Call) -> cst.CSTNode:
    """The statement of the module that holds the call."""
    return [call, *source.above(call)][-2]


def _written(source: Parsed, call: cst.Call) -> tuple[Change, ...]:
    if is_torch(source, call.func, "ReLU"):
        name = source.replaced(call.func, name_for(source, "torch.nn.LeakyReLU"))
        start = source.span(call.args[0])[0] if call.args else source.span(call)[1] - 1
        if any(arg.star or arg.keyword is None for arg in call.args):
            raise NoEdit("ReLU has an argument without a keyword")
        return name, Change(start, start, f"{_SLOPE}, " if call.args else _SLOPE)
    if is_torch(source, call.func, "relu_") or len(call.args) != 1 or argument(call, "input", 0) is None:
        raise NoEdit("relu is called with more than its input, or in place")
    end = source.span(call.args[0])[1]
    return (
        source.replaced(call.func, name_for(source, "torch.nn.functional.leaky_relu")),
        Change(end, end, f", {_SLOPE}"),
    )
