"""The construction of an optimizer, and the settings of its parameter groups."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from auditor.edits.changes import NoEdit
from auditor.edits.imports import dotted, full_name
from auditor.edits.parsed import Parsed


def kind_of(source: Parsed, call: cst.Call) -> str:
    """'Adam' of `torch.optim.Adam(...)`; '' for what is not torch's own."""
    module, _, name = full_name(source, call.func).rpartition(".")
    return (
        name if module.startswith("torch.optim") and module != "torch.optim.lr_scheduler" and name[:1].isupper() else ""
    )


def _looks_like_one(source: Parsed, call: cst.Call) -> bool:
    named = {arg.keyword.value for arg in call.args if arg.keyword is not None}
    name = dotted(call.func).rpartition(".")[2]
    return bool(kind_of(source, call)) or (bool(named & {"lr", "weight_decay"}) and name[:1].isupper())


def constructed_at(source: Parsed, line: int) -> cst.Call:
    """The optimizer that is built at a line. Raises NoEdit unless there is one."""
    for calls in (source.calls_at(line), source.calls_around(line)):
        found = [call for call in calls if _looks_like_one(source, call)]
        if len(found) == 1:
            return found[0]
        if found:
            raise NoEdit(f"line {line} builds several optimizers")
    raise NoEdit(f"no optimizer is built in line {line}")


def group_settings(source: Parsed, call: cst.Call, key: str) -> list[cst.BaseExpression]:
    """What parameter groups written into the call set for `key`.

    Raises NoEdit when groups that are written elsewhere may set it.
    """
    inside = [value for owner, value in _settings(source, key) if call in source.above(owner)]
    groups = call.args[0].value if call.args else None
    plain = isinstance(groups, cst.Call) or (isinstance(groups, cst.List | cst.ListComp) and inside)
    if not plain and len(list(_settings(source, key))) > len(inside):
        raise NoEdit(f"its parameter groups may have a {key} of their own")
    return inside


def _settings(source: Parsed, key: str) -> Iterator[tuple[cst.CSTNode, cst.BaseExpression]]:
    for element in source.every(cst.DictElement):
        if isinstance(element.key, cst.SimpleString) and element.key.evaluated_value == key:
            yield element, element.value
    for call in source.every(cst.Call):
        for arg in call.args:
            if dotted(call.func) == "dict" and arg.keyword is not None and arg.keyword.value == key:
                yield arg, arg.value


def every_group_has_its_own(call: cst.Call, settings: int) -> bool:
    """Whether the groups written into the call are as many as the settings that were found in them."""
    groups = call.args[0].value if call.args else None
    return isinstance(groups, cst.List) and 0 < len(groups.elements) == settings
