"""Statements, the blocks they stand in, and lines put before them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import libcst as cst

from auditor.edits.changes import Change, NoEdit
from auditor.edits.imports import dotted, imported
from auditor.edits.parsed import Parsed

Block = cst.IndentedBlock | cst.Module
Loop = cst.For | cst.While


def statement_at(source: Parsed, line: int) -> cst.SimpleStatementLine:
    """The one simple statement whose text reaches over the line. Raises NoEdit where there is none or several."""
    for statement in source.every(cst.SimpleStatementLine):
        first, last = source.lines(statement)
        if first <= line <= last:
            if len(statement.body) != 1:
                raise NoEdit(f"line {line} holds several statements")
            return statement
    raise NoEdit(f"line {line} is not a statement on lines of its own")


def called(statement: cst.BaseStatement) -> cst.Call | None:
    """The call of a statement that is nothing but a call."""
    if isinstance(statement, cst.SimpleStatementLine) and len(statement.body) == 1:
        only = statement.body[0]
        if isinstance(only, cst.Expr) and isinstance(only.value, cst.Call):
            return only.value
    return None


def method(call: cst.Call | None) -> tuple[str, str]:
    """('self.optimizer', 'step') of `self.optimizer.step()`; '' for what has no name."""
    if call is None or not isinstance(call.func, cst.Attribute):
        return "", ""
    return dotted(call.func.value), call.func.attr.value


def block_of(source: Parsed, statement: cst.BaseStatement) -> Block:
    """Raises NoEdit for `if ready: statement`, all on one line."""
    parent = source.parent(statement)
    if isinstance(parent, cst.IndentedBlock | cst.Module):
        return parent
    raise NoEdit("the statement shares its line with what it stands in")


def statements(block: Block) -> Sequence[cst.BaseStatement]:
    return [each for each in block.body if isinstance(each, cst.BaseStatement)]


def inserted_before(source: Parsed, statement: cst.BaseStatement, code: str) -> Change:
    """A line before the statement, indented like it."""
    block_of(source, statement)
    line = _first_line(source, statement)
    start = source.line_span(line)[0]
    text = source.line_text(line)
    indent = text[: len(text) - len(text.lstrip(" \t\f"))]
    return Change(start, start, indent + code + source.line_break(line))


def inserted_after(source: Parsed, statement: cst.BaseStatement, *rows: str) -> Change:
    """Lines behind the simple statement, indented like it."""
    block_of(source, statement)
    first, last = source.lines(statement)
    text = source.line_text(first)
    indent = text[: len(text) - len(text.lstrip(" \t\f"))]
    end = source.line_span(last)[0] + len(source.line_text(last))
    return Change(end, end, "".join(source.line_break(last) + indent + row for row in rows))


def _first_line(source: Parsed, statement: cst.BaseStatement) -> int:
    """Decorators come first."""
    decorators = statement.decorators if isinstance(statement, cst.FunctionDef | cst.ClassDef) else ()
    return source.lines(decorators[0] if decorators else statement)[0]


def without(source: Parsed, statement: cst.BaseStatement) -> Change:
    """Its lines go, with a comment on them. Raises NoEdit for the only statement of a block."""
    if len(statements(block_of(source, statement))) < 2:
        raise NoEdit("it is the only statement of its block")
    first, last = source.lines(statement)
    return Change(source.line_span(first)[0], source.line_span(last)[1], "")


def loops_around(source: Parsed, node: cst.CSTNode) -> Iterator[Loop]:
    """From the inside, within one function."""
    for each in source.above(node):
        if isinstance(each, cst.FunctionDef | cst.ClassDef | cst.Lambda):
            return
        if isinstance(each, cst.For | cst.While):
            yield each


def check_known(source: Parsed, name: str, place: cst.CSTNode) -> None:
    """Raises NoEdit unless `name` is used or bound, as a variable, in the function that the place is in."""
    first = name.partition(".")[0]
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise NoEdit("what to call it is not known")
    classes = {each.name.value for each in source.every(cst.ClassDef)}
    functions = {each.name.value for each in source.every(cst.FunctionDef)}
    if first in {*imported(source), *classes, *functions}:
        raise NoEdit(f"{first} is not a variable")
    if not any(each.value == first for each in source.inside(source.scope(place), cst.Name)):
        raise NoEdit(f"{first} is not used in this function")
