"""NO_DROPOUT: a dropout probability becomes zero."""

from __future__ import annotations

import libcst as cst

from auditor.edits.arguments import argument
from auditor.edits.changes import Change, NoEdit
from auditor.edits.definitions import literal_behind
from auditor.edits.imports import full_name
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind


@writes(RemedyKind.NO_DROPOUT)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    found = [call for call in source.calls_at(site.line) if _drops(source, call)]
    if len(found) != 1:
        raise NoEdit(f"line {site.line} holds {len(found) or 'no'} dropout{'s' if found else ''} of torch")
    call = found[0]
    name = full_name(source, call.func)
    given = argument(call, "dropout", None)
    if given is None:
        given = argument(call, "p", 1 if "functional" in name else 0)
    if given is None:
        if call.args or "functional" in name:
            raise NoEdit("the probability is not written there")
        end = source.span(call)[1] - 1
        return (Change(end, end, "0.0"),)
    literal = literal_behind(source, given.value)
    if not float(literal.value):
        raise NoEdit("the probability is zero already")
    return (source.replaced(literal, "0.0"),)


def _drops(source: Parsed, call: cst.Call) -> bool:
    name = full_name(source, call.func)
    keywords = {arg.keyword.value for arg in call.args if arg.keyword is not None}
    return name.startswith("torch.nn") and ("dropout" in name.lower() or "dropout" in keywords)
