"""SHUFFLE: the training loader mixes its samples."""

from __future__ import annotations

import libcst as cst

from auditor.edits.arguments import added, argument
from auditor.edits.changes import Change, NoEdit
from auditor.edits.imports import dotted
from auditor.edits.parsed import Parsed
from auditor.edits.registry import writes
from auditor.evidence import Location, Remedy, RemedyKind

# Places among the arguments of a DataLoader.
_SHUFFLE, _SAMPLER, _BATCH_SAMPLER = 2, 3, 4


@writes(RemedyKind.SHUFFLE)
def write(source: Parsed, remedy: Remedy, site: Location) -> tuple[Change, ...]:
    call = _loader(source, site.line)
    if any("IterableDataset" in name.value for name in source.every(cst.Name)):
        raise NoEdit("a stream of samples cannot be shuffled by its loader")
    for keyword, position in (("sampler", _SAMPLER), ("batch_sampler", _BATCH_SAMPLER)):
        if argument(call, keyword, position) is not None:
            raise NoEdit(f"the loader has a {keyword}")
    shuffle = argument(call, "shuffle", _SHUFFLE)
    if shuffle is None:
        return added(source, call, "shuffle=True")
    value = source.code(shuffle.value)
    if value == "True":
        raise NoEdit("the loader shuffles already")
    if value not in ("False", "None", "0"):
        raise NoEdit(f"whether it shuffles is decided by `{value}`")
    return (source.replaced(shuffle.value, "True"),)


def _loader(source: Parsed, line: int) -> cst.Call:
    for calls in (source.calls_at(line), source.calls_around(line)):
        found = [call for call in calls if dotted(call.func).rpartition(".")[2] == "DataLoader"]
        if len(found) == 1:
            return found[0]
        if found:
            raise NoEdit(f"line {line} builds several loaders")
    raise NoEdit(f"no DataLoader is built in line {line}")
