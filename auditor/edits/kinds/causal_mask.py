"""CAUSAL_MASK: attention is told to be causal."""

from __future__ import annotations

from auditor.edits.arguments import added, argument
from auditor.edits.changes import Change, NoEdit
from auditor.edits.imports import is_torch
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind

# Places among the arguments of scaled_dot_product_attention.
_MASK, _CAUSAL = 3, 5


@writes(RemedyKind.CAUSAL_MASK)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    calls = [call for call in source.calls_at(site.line) if is_torch(source, call.func, "scaled_dot_product_attention")]
    if len(calls) != 1:
        raise NoEdit(f"line {site.line} is not one call of scaled_dot_product_attention")
    mask, causal = argument(calls[0], "attn_mask", _MASK), argument(calls[0], "is_causal", _CAUSAL)
    if mask is not None and source.code(mask.value) != "None":
        raise NoEdit("attention has a mask already")
    if causal is None:
        return added(source, calls[0], "is_causal=True")
    if source.code(causal.value) != "False":
        raise NoEdit("whether attention is causal is decided elsewhere")
    return (source.replaced(causal.value, "True"),)
