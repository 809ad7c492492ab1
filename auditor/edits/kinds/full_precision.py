"""FULL_PRECISION: the model keeps its weights in float32."""

from __future__ import annotations

import re

import libcst as cst

from auditor.edits.blocks import called, statement_at, without
from auditor.edits.changes import Change, NoEdit
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind

_METHODS = ("half", "bfloat16")
_LOW = re.compile(r"\.(half|bfloat16)\(|\b(float16|bfloat16|half|set_default_dtype)\b(?!\()")


@writes(RemedyKind.FULL_PRECISION)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    """`.half()` of the model goes, where nothing else of the file is in low precision and would no longer fit."""
    found = [call for call in source.calls_at(site.line) if _is_cast(call)]
    if len(found) != 1:
        raise NoEdit(f"no model is cast in line {site.line}")
    if len(_LOW.findall(source.text)) > 1:
        raise NoEdit("other lines use low precision as well")
    call = found[0]
    statement = statement_at(source, site.line)
    if called(statement) is call:
        return (without(source, statement),)
    assert isinstance(call.func, cst.Attribute)
    return (Change(source.span(call.func.value)[1], source.span(call)[1], ""),)


def _is_cast(call: cst.Call) -> bool:
    return isinstance(call.func, cst.Attribute) and call.func.attr.value in _METHODS and not call.args
