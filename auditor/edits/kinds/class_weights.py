"""CLASS_WEIGHTS: rare classes weigh more in the loss."""

from __future__ import annotations

import re

import libcst as cst

from auditor.edits.arguments import added, argument
from auditor.edits.changes import Change, NoEdit
from auditor.edits.imports import full_name, name_for
from auditor.edits.literals import number
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind

_LOSSES = ("torch.nn.CrossEntropyLoss", "torch.nn.NLLLoss")
_FUNCTIONS = ("torch.nn.functional.cross_entropy", "torch.nn.functional.nll_loss")
_DEVICES = re.compile(r"\.(to|cuda|mps|xpu)\(|\bdevice\b|set_default_device")


@writes(RemedyKind.CLASS_WEIGHTS)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    """`weight=torch.tensor([...])` in the loss at the site, or in the only one that the file builds."""
    if not remedy.values:
        raise NoEdit("the weights were not measured")
    if _DEVICES.search(source.text):
        raise NoEdit("the weights would have to be on the device of the outputs")
    call = _loss(source, site.line)
    if argument(call, "weight", 0 if full_name(source, call.func) in _LOSSES else 2) is not None:
        raise NoEdit("the loss has weights already")
    values = ", ".join(number(value, 3) for value in remedy.values)
    return added(source, call, f"weight={name_for(source, 'torch.tensor')}([{values}])")


def _loss(source: Parsed, line: int) -> cst.Call:
    at_site = [call for call in source.calls_at(line) if full_name(source, call.func) in (*_LOSSES, *_FUNCTIONS)]
    built = [call for call in source.every(cst.Call) if full_name(source, call.func) in _LOSSES]
    found = at_site or built
    if len(found) != 1:
        raise NoEdit("it is not certain which loss it is")
    return found[0]
