"""LOG_PROBABILITIES: nll_loss gets the logarithms that it takes its input for."""

from __future__ import annotations

import libcst as cst

from auditor.edits.changes import Change, NoEdit
from auditor.edits.imports import dotted, full_name, name_for
from auditor.edits.operations import Applied, applied_at, argument_input, calls_of, defined_name, definition, plain
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind

_FUNCTION, _MODULE = "torch.nn.functional.nll_loss", "torch.nn.NLLLoss"
_INSTEAD = {_FUNCTION: "torch.nn.functional.cross_entropy", _MODULE: "torch.nn.CrossEntropyLoss"}


@writes(RemedyKind.LOG_PROBABILITIES)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    """The softmax becomes a log-softmax; where the loss gets raw outputs, it becomes the cross entropy."""
    if remedy.subject:
        return _logarithm(source, applied_at(source, site.line, plain(remedy.subject)))
    called = [call for call in source.calls_at(site.line) if full_name(source, call.func) == _FUNCTION]
    if len(called) == 1:
        given = _given(source, called[0])
        alike = [call for call in source.every(cst.Call) if full_name(source, call.func) == _FUNCTION]
        return tuple(_renamed(source, call, _FUNCTION) for call in alike if _given(source, call) == given)
    built = [definition(source, dotted(call.func)) for call in source.calls_at(site.line)]
    losses = [each for each in built if isinstance(each, cst.Call) and full_name(source, each.func) == _MODULE]
    if called or len(losses) != 1:
        raise NoEdit(f"line {site.line} is not one call of nll_loss")
    uses = calls_of(source, defined_name(source, losses[0]))
    if len({_given(source, call) for call in uses}) != 1:
        raise NoEdit("the loss is given several things")
    return (_renamed(source, losses[0], _MODULE),)


def _given(source: Parsed, call: cst.Call) -> str:
    """Its input, as it is written."""
    value = argument_input(call)
    if value is None:
        raise NoEdit("what the loss is given is not certain")
    return source.code(value)


def _renamed(source: Parsed, call: cst.Call, known: str) -> Change:
    return source.replaced(call.func, name_for(source, _INSTEAD[known]))


def _logarithm(source: Parsed, applied: Applied) -> tuple[Change, ...]:
    """`log_softmax` with the arguments that the softmax has."""
    if applied.kind == "module":
        return (source.replaced(applied.call.func, name_for(source, "torch.nn.LogSoftmax")),)
    if isinstance(applied.call.func, cst.Attribute) and applied.call.func.attr.value == "softmax":
        return (source.replaced(applied.call.func.attr, "log_softmax"),)
    return (source.replaced(applied.call.func, name_for(source, "torch.nn.functional.log_softmax")),)
