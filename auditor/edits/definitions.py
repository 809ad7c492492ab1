"""Where a number comes from that a call is given: the literal itself, or the one place of the file that defines it."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst
from libcst import matchers as m

from auditor.edits.changes import NoEdit
from auditor.edits.imports import dotted, full_name
from auditor.edits.parameters import given_to
from auditor.edits.parsed import Parsed

Literal = cst.Float | cst.Integer
Bound = cst.BaseExpression | cst.Param | None  # None: by something that is no plain assignment
_DEEPEST = 4  # names that stand for names


def literal_behind(source: Parsed, value: cst.BaseExpression, deep: int = _DEEPEST) -> Literal:
    """The number literal that decides `value`: `1e-3`, `LR`, `args.lr`, `cfg["lr"]`, a parameter of the function.

    Raises NoEdit where there is none, or where it is not certain that it is this one.
    """
    if isinstance(value, Literal):
        return _decimal(value)
    if isinstance(value, cst.Name):
        found = list(_bindings(source, value.value))
    elif isinstance(value, cst.Attribute):
        found = list(_attributes(source, value.attr.value))
    elif isinstance(value, cst.Subscript) and (key := _key(value)):
        found = list(_entries(source, key))
    else:
        raise NoEdit(f"`{_short(source, value)}` is not a plain number")
    if not found:
        raise NoEdit(f"`{_short(source, value)}` is not defined in this file")
    if len(found) > 1:
        raise NoEdit(f"`{_short(source, value)}` is defined in {len(found)} places")
    (only,) = found
    if only is None or not deep:
        raise NoEdit(f"`{_short(source, value)}` is not defined by a plain number")
    return literal_behind(source, given_to(source, only) if isinstance(only, cst.Param) else only, deep - 1)


def _decimal(literal: Literal) -> Literal:
    try:
        float(literal.value)
    except ValueError:  # 0x10
        raise NoEdit(f"{literal.value} is not a decimal number") from None
    return literal


def _short(source: Parsed, value: cst.BaseExpression) -> str:
    text = " ".join(source.code(value).split())
    return text if len(text) <= 40 else text[:39] + "…"


# ------------------------------------------------------------------------------------------------------------- names


def _bindings(source: Parsed, name: str) -> Iterator[Bound]:
    """What is bound to a variable of this name anywhere in the file; None for what is no assigned value."""
    for node in source.every(cst.Name):
        if node.value == name:
            yield from _binding(source, node)
    for statement in source.every(cst.ImportFrom):
        if isinstance(statement.names, cst.ImportStar):
            yield None  # it may bring a name along


def _binding(source: Parsed, node: cst.Name) -> Iterator[Bound]:
    parent = source.parent(node)
    match parent:
        case cst.AssignTarget(target=target) if target is node:
            assign = source.parent(parent)
            assert isinstance(assign, cst.Assign)
            yield assign.value
        case cst.AnnAssign(target=target, value=value) if target is node and not _in_class(source, parent):
            if value is not None:
                yield value
        case cst.AugAssign(target=target) | cst.For(target=target) | cst.CompFor(target=target) if target is node:
            yield None
        case cst.NamedExpr(target=target) if target is node:
            yield None
        case cst.Param(name=bound) if bound is node:
            yield parent
        case cst.ImportAlias() | cst.AsName() | cst.NameItem() | cst.Del():
            yield None
        case cst.Element() | cst.StarredElement() if _is_target(source, parent):
            yield None
        case cst.FunctionDef(name=bound) | cst.ClassDef(name=bound) if bound is node:
            yield None


def _in_class(source: Parsed, node: cst.CSTNode) -> bool:
    kinds = (cst.FunctionDef, cst.ClassDef)
    return isinstance(next((each for each in source.above(node) if isinstance(each, kinds)), None), cst.ClassDef)


def _is_target(source: Parsed, element: cst.CSTNode) -> bool:
    """Whether a tuple's element is bound: `a, b = ...`, `for a, b in ...`, `with ... as (a, b)`."""
    inner = element
    for each in source.above(element):
        if isinstance(each, cst.AssignTarget | cst.AsName):
            return True
        if isinstance(each, cst.For | cst.CompFor):
            return each.target is inner
        if not isinstance(each, cst.Tuple | cst.List | cst.Element | cst.StarredElement):
            return False
        inner = each
    return False


# -------------------------------------------------------------------------------------------------------- attributes


def _attributes(source: Parsed, name: str) -> Iterator[Bound]:
    """What may be behind an attribute: a command line option, a field of a class, a keyword of a configuration."""
    for call in source.every(cst.Call):
        if isinstance(call.func, cst.Attribute) and call.func.attr.value == "add_argument":
            yield from _option(source, call, name)
        elif not full_name(source, call.func).startswith("torch."):
            yield from _keyword(call, name)
    for assign in source.every(cst.Assign):
        for target in assign.targets:
            yield from _assigned(source, assign, target.target, name)
    for annotated in source.every(cst.AnnAssign):
        if annotated.value is not None:
            yield from _assigned(source, annotated, annotated.target, name)
    for changed in source.every(cst.AugAssign):
        if m.matches(changed.target, m.Attribute(attr=m.Name(name))):
            yield None


def _assigned(source: Parsed, statement: cst.Assign | cst.AnnAssign, target: cst.CSTNode, name: str) -> Iterator[Bound]:
    if isinstance(target, cst.Attribute) and target.attr.value == name:
        yield statement.value
    if isinstance(target, cst.Name) and target.value == name and _in_class(source, statement):
        owner = next(each for each in source.above(statement) if isinstance(each, cst.ClassDef))
        for call in source.every(cst.Call):
            if dotted(call.func).rpartition(".")[2] == owner.name.value and _may_fill_fields(call):
                raise NoEdit(f"{owner.name.value}(...) may be given another {name}")
        yield statement.value


def _may_fill_fields(call: cst.Call) -> bool:
    return any(arg.star or arg.keyword is None for arg in call.args)


def _option(source: Parsed, call: cst.Call, name: str) -> Iterator[Bound]:
    options = [
        str(arg.value.evaluated_value)
        for arg in call.args
        if arg.keyword is None and isinstance(arg.value, cst.SimpleString)
    ]
    keywords = {arg.keyword.value: arg.value for arg in call.args if arg.keyword is not None}
    target = keywords.get("dest")
    long = next((option for option in options if option.startswith("--")), options[0] if options else "")
    bound = str(target.evaluated_value) if isinstance(target, cst.SimpleString) else long.lstrip("-").replace("-", "_")
    if bound != name:
        return
    for given in source.arguments:
        if given.partition("=")[0] in options or any(_abbreviates(given, option) for option in options):
            raise NoEdit(f"{given.partition('=')[0]} was given on the command line")
    yield keywords.get("default")


def _abbreviates(given: str, option: str) -> bool:
    start = given.partition("=")[0]
    return (len(start) > 2 and start.startswith("--") and option.startswith(start)) or (
        len(option) == 2 and option[0] == "-" and given.startswith(option)
    )


def _keyword(call: cst.Call, name: str) -> Iterator[Bound]:
    for arg in call.args:
        if arg.keyword is not None and arg.keyword.value == name:
            yield arg.value


# ----------------------------------------------------------------------------------------------------------- entries


def _key(value: cst.Subscript) -> str:
    """'lr' of `cfg["lr"]`."""
    if len(value.slice) == 1 and isinstance(index := value.slice[0].slice, cst.Index):
        return _string(index.value)
    return ""


def _string(node: cst.BaseExpression) -> str:
    return str(node.evaluated_value) if isinstance(node, cst.SimpleString) else ""


def _entries(source: Parsed, key: str) -> Iterator[Bound]:
    """What stands behind a key in the dictionaries of the file."""
    for element in source.every(cst.DictElement):
        if _string(element.key) == key:
            yield element.value
    for call in source.every(cst.Call):
        if dotted(call.func) == "dict" or dotted(call.func).endswith(".update"):
            yield from _keyword(call, key)
    for assign in source.every(cst.Assign):
        if any(isinstance(each.target, cst.Subscript) and _key(each.target) == key for each in assign.targets):
            yield assign.value
    for changed in source.every(cst.AugAssign):
        if isinstance(changed.target, cst.Subscript) and _key(changed.target) == key:
            yield None
