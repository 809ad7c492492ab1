"""What a function's parameter is given, where the file calls the function once."""

from __future__ import annotations

import libcst as cst

from auditor.edits.arguments import argument
from auditor.edits.changes import NoEdit
from auditor.edits.imports import dotted
from auditor.edits.parsed import Parsed

_REBINDING = ("staticmethod", "classmethod")  # the first argument is another one


def given_to(source: Parsed, parameter: cst.Param) -> cst.BaseExpression:
    """The argument of the only call, or the default. Raises NoEdit where it may be something else."""
    name = parameter.name.value
    function = next((each for each in source.above(parameter) if isinstance(each, cst.FunctionDef | cst.Lambda)), None)
    if not isinstance(function, cst.FunctionDef):
        raise NoEdit(f"`{name}` is a parameter of a lambda")
    if any(dotted(each.decorator) in _REBINDING for each in function.decorators):
        raise NoEdit(f"{function.name.value}() is decorated")
    owner = next((each for each in source.above(function) if isinstance(each, cst.ClassDef | cst.FunctionDef)), None)
    made = function.name.value == "__init__" and isinstance(owner, cst.ClassDef)
    called = owner.name.value if made and isinstance(owner, cst.ClassDef) else function.name.value
    call = _only_call(source, called)
    before = [each.name.value for each in (*function.params.posonly_params, *function.params.params)]
    place = before.index(name) - isinstance(owner, cst.ClassDef) if name in before else None
    arg = argument(call, name, place)
    if arg is not None:
        return arg.value
    if parameter.default is None:
        raise NoEdit(f"what {called}() is given for `{name}` is not certain")
    return parameter.default


def _only_call(source: Parsed, name: str) -> cst.Call:
    """Raises NoEdit when the function or class is called several times, or used in another way."""
    uses = [each for each in source.every(cst.Name) if each.value == name and not _defines(source, each)]
    calls = [call for call in source.every(cst.Call) if dotted(call.func).rpartition(".")[2] == name]
    if len(calls) != 1 or len(uses) != 1:
        raise NoEdit(f"{name}() is not called in one place only")
    return calls[0]


def _defines(source: Parsed, node: cst.Name) -> bool:
    parent = source.parent(node)
    return isinstance(parent, cst.FunctionDef | cst.ClassDef) and parent.name is node
