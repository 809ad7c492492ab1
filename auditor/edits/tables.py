"""A table that is split into training and held-out rows: standardized with the numbers of the training rows."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from auditor.edits.blocks import inserted_after
from auditor.edits.changes import Change, NoEdit
from auditor.edits.imports import dotted
from auditor.edits.operations import definition
from auditor.edits.parsed import Parsed

_UNCERTAIN = "which rows are held out is not certain"
_NAMES = (("mean", "std"), ("x_mean", "x_std"))


def standardized(source: Parsed, line: int) -> tuple[Change, ...]:
    """Two lines behind the split of the table that the loader in that line is given. Raises NoEdit."""
    table = _table(source, line)
    split, parts = _split(source, table)
    _check_rest(source, split, parts)
    mean, std = _free(source)
    names = [table, *(part for part in parts if part != table)]
    values = ", ".join(f"({name} - {mean}) / {std}" for name in names)
    moments = f"{mean}, {std} = {table}.mean(0), {table}.std(0)"
    return (inserted_after(source, split, moments, f"{', '.join(names)} = {values}"),)


def _table(source: Parsed, line: int) -> str:
    """'x_train' of `DataLoader(TensorDataset(x_train, y_train))`, in one call or in two."""
    around = {id(call): call for call in (*source.calls_at(line), *source.calls_around(line))}.values()
    for loader in around:
        given = loader.args[0].value if _is(loader, "DataLoader") and loader.args else None
        data = definition(source, dotted(given)) if given is not None and dotted(given) else given
        if not isinstance(data, cst.Call) or not _is(data, "TensorDataset") or not data.args:
            continue
        table = data.args[0]
        if isinstance(table.value, cst.Name) and not table.star:
            return table.value.value
    raise NoEdit("where the inputs come from is not a table with a name")


def _is(call: cst.Call, name: str) -> bool:
    return dotted(call.func).rpartition(".")[2] == name


def _split(source: Parsed, table: str) -> tuple[cst.SimpleStatementLine, list[str]]:
    """The one statement that assigns the table and the other parts of the same rows. Raises NoEdit."""
    for statement in source.every(cst.SimpleStatementLine):
        assign = statement.body[0]
        if len(statement.body) != 1 or not isinstance(assign, cst.Assign) or len(assign.targets) != 1:
            continue
        target = assign.targets[0].target
        names = [dotted(each.value) for each in target.elements] if isinstance(target, cst.Tuple) else []
        if table in names:
            parts = _parts(assign.value, names, table)
            if len(parts) > 1 and all(part.isidentifier() for part in parts):
                return statement, parts
    raise NoEdit(_UNCERTAIN)


def _parts(value: cst.BaseExpression, names: Sequence[str], table: str) -> list[str]:
    """Those of the names that get rows of what the table gets rows of."""
    if isinstance(value, cst.Call) and _is(value, "train_test_split") and len(names) % 2 == 0:
        first = names.index(table) // 2 * 2
        return list(names[first : first + 2])
    if not isinstance(value, cst.Tuple) or len(value.elements) != len(names):
        return []
    bases = [_rows_of(each.value) for each in value.elements]
    base = bases[names.index(table)]
    return [name for name, other in zip(names, bases, strict=True) if base and other == base]


def _rows_of(value: cst.BaseExpression) -> str:
    """'x' of `x[:3200]`; '' for anything else."""
    return dotted(value.value) if isinstance(value, cst.Subscript) and len(value.slice) == 1 else ""


def _check_rest(source: Parsed, split: cst.SimpleStatementLine, parts: Sequence[str]) -> None:
    """Raises NoEdit when rows may be reached in another way than by the parts."""
    assign = split.body[0]
    assert isinstance(assign, cst.Assign)
    wholes = {_rows_of(each.value) for each in assign.value.elements} if isinstance(assign.value, cst.Tuple) else set()
    if isinstance(assign.value, cst.Call):
        wholes = {dotted(arg.value) for arg in assign.value.args if arg.keyword is None}
    end = source.span(split)[1]
    for name in source.every(cst.Name):
        if source.scope(name) is not source.scope(split) and _is_local(source, name):
            continue
        later = source.span(name)[0] >= end or source.scope(name) is not source.scope(split)
        if name.value in wholes and later and not _is_attribute(source, name):
            raise NoEdit(_UNCERTAIN)
        if name.value in parts and split not in source.above(name) and _binds(source, name):
            raise NoEdit(f"{name.value} is assigned in several places")


def _is_local(source: Parsed, name: cst.Name) -> bool:
    """Whether the function that a name stands in has a variable of its own of that name."""
    scope = source.scope(name)
    return any(
        each.value == name.value and (_binds(source, each) or isinstance(source.parent(each), cst.Param))
        for each in source.inside(scope, cst.Name)
    )


def _is_attribute(source: Parsed, name: cst.Name) -> bool:
    """`mean` in `x.mean`, and the name of a keyword argument."""
    parent = source.parent(name)
    return (isinstance(parent, cst.Attribute) and parent.attr is name) or (
        isinstance(parent, cst.Arg) and parent.keyword is name
    )


def _binds(source: Parsed, name: cst.Name) -> bool:
    """Whether it is assigned to, by whichever statement."""
    inner: cst.CSTNode = name
    for each in source.above(name):
        if isinstance(each, cst.AssignTarget | cst.AugAssign | cst.AnnAssign | cst.For | cst.CompFor | cst.NamedExpr):
            return each.target is inner
        if not isinstance(each, cst.Tuple | cst.List | cst.Element | cst.StarredElement):
            return False
        inner = each
    return False


def _free(source: Parsed) -> tuple[str, str]:
    """Names that the file has no other use for."""
    used = {name.value for name in source.every(cst.Name) if not _is_attribute(source, name)}
    for pair in _NAMES:
        if not used & set(pair):
            return pair
    raise NoEdit("mean and std are names that the file uses")
