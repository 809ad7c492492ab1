"""BATCH_FIRST: recurrent and attention layers are built with `batch_first=True`."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from auditor.edits.arguments import added, argument
from auditor.edits.changes import Change, NoEdit
from auditor.edits.imports import is_torch
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind

_RECURRENT = ("LSTM", "GRU", "RNN")
_ATTENTION = ("MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer", "Transformer")
_PLACE = 4  # of batch_first among the arguments of a recurrent layer


@writes(RemedyKind.BATCH_FIRST)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    """All such layers of the file, as in the trial; one of them has to stand in the line."""
    found = [call for call in source.every(cst.Call) if is_torch(source, call.func, *_RECURRENT, *_ATTENTION)]
    if not any(call in source.calls_at(site.line) for call in found):
        raise NoEdit(f"no recurrent or attention layer is built in line {site.line}")
    changes = tuple(change for call in found for change in _told(source, call))
    if not changes:
        raise NoEdit("the layers take the batch first already")
    return changes


def _told(source: Parsed, call: cst.Call) -> Iterator[Change]:
    given = argument(call, "batch_first", _PLACE if is_torch(source, call.func, *_RECURRENT) else None)
    if given is None:
        yield from added(source, call, "batch_first=True")
    elif not isinstance(given.value, cst.Name) or given.value.value not in ("True", "False"):
        raise NoEdit("whether a layer takes the batch first is not written in its call")
    elif given.value.value == "False":
        yield source.replaced(given.value, "True")
