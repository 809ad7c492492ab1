"""CLIP: the gradients' norm is limited right before the update."""

from __future__ import annotations

import libcst as cst

from auditor.edits.blocks import block_of, called, check_known, inserted_before, method, statements
from auditor.edits.changes import Change, NoEdit
from auditor.edits.imports import dotted, name_for
from auditor.edits.literals import number
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.edits.updates import step_at
from auditor.evidence import Location, Remedy, RemedyKind


@writes(RemedyKind.CLIP)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    if not remedy.amount or remedy.amount <= 0:
        raise NoEdit("the limit is not known")
    if any(name.value == "GradScaler" for name in source.every(cst.Name)):
        raise NoEdit("with a GradScaler, gradients have to be unscaled before they are clipped")
    optimizer, statement = step_at(source, site.line)
    call = called(statement)
    if call is None or call.args:
        raise NoEdit("step() is given a closure")
    model = remedy.subject or _model_of(source, optimizer)
    check_known(source, model, statement)
    for other in statements(block_of(source, statement)):
        if any(dotted(each.func).rpartition(".")[2].startswith("clip_grad") for each in source.inside(other, cst.Call)):
            raise NoEdit("gradients are clipped already")
    clip = name_for(source, "torch.nn.utils.clip_grad_norm_")
    return (inserted_before(source, statement, f"{clip}({model}.parameters(), {number(remedy.amount, 3)})"),)


def _model_of(source: Parsed, optimizer: str) -> str:
    """The one name whose parameters() the optimizer of that name is built with, '' when that is not certain."""
    found = set()
    for assign in source.every(cst.Assign):
        if [dotted(target.target) for target in assign.targets] == [optimizer] and isinstance(assign.value, cst.Call):
            given = assign.value.args[0].value if assign.value.args else None
            owner, name = method(given if isinstance(given, cst.Call) else None)
            found.add(owner if name == "parameters" else "")
    return found.pop() if len(found) == 1 else ""
