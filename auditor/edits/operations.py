"""Where a file applies an operation such as the softmax: as a function, as a method, or as a module of torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import libcst as cst

from auditor.edits.changes import NoEdit
from auditor.edits.imports import dotted, full_name
from auditor.edits.parsed import Parsed


@dataclass(frozen=True)
class Applied:
    """The call that has the operation's arguments: `F.softmax(x, dim=1)`, `x.softmax(1)` or `nn.Softmax(dim=1)`."""

    kind: Literal["function", "method", "module"]
    call: cst.Call


def plain(name: str) -> str:
    """'logsoftmax' for log_softmax and nn.LogSoftmax."""
    return name.rpartition(".")[2].replace("_", "").lower()


def applied_at(source: Parsed, line: int, wanted: str) -> Applied:
    """The one application in that line, or the module that is built or called there. Raises NoEdit."""
    found = list(dict.fromkeys(_applied(source, line, wanted)))
    if len(found) != 1:
        raise NoEdit(f"line {line} holds {len(found) or 'no'} call{'s' if found else ''} of {wanted}")
    return found[0]


def _applied(source: Parsed, line: int, wanted: str) -> Iterator[Applied]:
    for call in source.calls_at(line):
        name = full_name(source, call.func)
        if is_module(source, call, wanted):
            yield Applied("module", call)
        elif is_function(name, wanted):
            yield Applied("function", call)
        elif (module := definition(source, dotted(call.func))) is not None and is_module(source, module, wanted):
            _check_called_once(source, dotted(call.func))
            assert isinstance(module, cst.Call)
            yield Applied("module", module)
        elif is_method(source, call, wanted):
            yield Applied("method", call)


def _check_called_once(source: Parsed, name: str) -> None:
    if len(calls_of(source, name)) != 1:
        raise NoEdit(f"{name} is called in several places")


def is_function(name: str, wanted: str) -> bool:
    """Whether a full name is that of a function of torch."""
    return name.startswith("torch.") and name.rpartition(".")[2][:1].islower() and plain(name) == wanted


def is_method(source: Parsed, call: cst.Call, wanted: str) -> bool:
    """`x.softmax(1)`. Not `self.softmax(x)`, a module or method that no plain nn.Softmax(...) defines."""
    if full_name(source, call.func) or not isinstance(call.func, cst.Attribute):
        return False
    return plain(call.func.attr.value) == wanted and dotted(call.func.value) != "self"


def is_module(source: Parsed, value: cst.BaseExpression | None, wanted: str) -> bool:
    """Whether an expression is `nn.Softmax(...)` of torch."""
    if not isinstance(value, cst.Call):
        return False
    name = full_name(source, value.func)
    return name.startswith("torch.nn.") and name.rpartition(".")[2][:1].isupper() and plain(name) == wanted


def definition(source: Parsed, name: str) -> cst.BaseExpression | None:
    """What the only assignment to that variable or attribute assigns."""
    values = [
        assign.value
        for assign in source.every(cst.Assign)
        for target in assign.targets
        if name and dotted(target.target) == name
    ]
    return values[0] if len(values) == 1 else None


def defined_name(source: Parsed, call: cst.Call) -> str:
    """'self.softmax' of `self.softmax = nn.Softmax(dim=1)`; '' where the call is anything else."""
    assign = source.parent(call)
    if not isinstance(assign, cst.Assign) or len(assign.targets) != 1:
        return ""
    name = dotted(assign.targets[0].target)
    return name if definition(source, name) is call else ""


def calls_of(source: Parsed, name: str) -> list[cst.Call]:
    """Calls of a variable or attribute, wherever they stand."""
    return [call for call in source.every(cst.Call) if name and dotted(call.func) == name]


def argument_input(call: cst.Call) -> cst.BaseExpression | None:
    """What a function or module transforms: the first argument, or the one called input."""
    for place, arg in enumerate(call.args):
        if not arg.star and ((arg.keyword is None and place == 0) or (arg.keyword and arg.keyword.value == "input")):
            return arg.value
    return None
