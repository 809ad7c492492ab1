"""IGNORE_LABELS: labels of padding are left out of the loss."""

from __future__ import annotations

import libcst as cst

from auditor.edits.arguments import added, argument
from auditor.edits.changes import Change, NoEdit
from auditor.edits.imports import dotted, full_name
from auditor.edits.operations import definition
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind

# Place of `ignore_index` among the arguments.
_LOSSES = {
    "torch.nn.functional.cross_entropy": 4,
    "torch.nn.functional.nll_loss": 4,
    "torch.nn.CrossEntropyLoss": 2,
    "torch.nn.NLLLoss": 2,
}


@writes(RemedyKind.IGNORE_LABELS)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    """`ignore_index=` in the function that the line calls, or in the module that it calls by name."""
    if remedy.amount is None:
        raise NoEdit("which label stands for padding is not known")
    called = source.calls_at(site.line)
    named = [each for call in called if isinstance(each := definition(source, dotted(call.func)), cst.Call)]
    found = [call for call in (*called, *named) if full_name(source, call.func) in _LOSSES]
    if len(found) != 1:
        raise NoEdit("it is not certain which loss it is")
    [loss] = found
    if argument(loss, "ignore_index", _LOSSES[full_name(source, loss.func)]) is not None:
        raise NoEdit("the loss ignores other labels already")
    return added(source, loss, f"ignore_index={int(remedy.amount)}")
