"""Arguments of calls: found by name or position, set, added and taken out."""

from __future__ import annotations

import libcst as cst

from auditor.edits.changes import Change, NoEdit
from auditor.edits.parsed import Parsed


def argument(call: cst.Call, keyword: str, position: int | None = None) -> cst.Arg | None:
    """The argument that a parameter gets, None when it is not named. Raises NoEdit when *args or **kwargs hide it."""
    for place, arg in enumerate(call.args):
        if arg.star:
            raise NoEdit(f"{'*' * len(arg.star)} arguments may hold {keyword}")
        if arg.keyword is not None and arg.keyword.value == keyword:
            return arg
        if arg.keyword is None and place == position:
            return arg
    return None


def added(source: Parsed, call: cst.Call, text: str) -> tuple[Change, ...]:
    """`text` as the last argument, on a line of its own where the last one has that."""
    if any(arg.star for arg in call.args):
        raise NoEdit("the call has * or ** arguments")
    if not call.args:
        end = source.span(call)[1] - 1
        if source.text[end] != ")":  # in parentheses of its own
            raise NoEdit("the call is in parentheses of its own")
        return (Change(end, end, text),)
    last = call.args[-1]
    comma = last.comma if isinstance(last.comma, cst.Comma) else None
    end = source.span(comma or last)[1]
    first_line, last_line = source.lines(last)
    line_start, line_end = source.line_span(last_line)
    indent = source.line_text(first_line)[: source.span(last)[0] - source.line_span(first_line)[0]]
    line_end = line_start + len(source.line_text(last_line))
    rest = source.text[end:line_end].strip()
    if not indent.strip() and (not rest or rest.startswith("#")) and line_end < len(source.text):
        below = source.line_break(last_line) + indent + text
        return (Change(line_end, line_end, below + ","),) if comma else _split(end, line_end, below)
    return (Change(end, end, f" {text}" if comma else f", {text}"),)


def _split(end: int, line_end: int, below: str) -> tuple[Change, ...]:
    """A comma after the last argument and the new one below, with a comment of the line left in its place."""
    return (
        (Change(end, end, "," + below),)
        if end == line_end
        else (Change(end, end, ","), Change(line_end, line_end, below))
    )


def removed(source: Parsed, call: cst.Call, arg: cst.Arg) -> tuple[Change, ...]:
    """Without its last argument; where that has lines of its own, those go as well. Raises NoEdit for another one."""
    if arg is not call.args[-1] or len(call.args) < 2:
        raise NoEdit("it is not the last of several arguments")
    before = call.args[-2]
    comma = arg.comma if isinstance(arg.comma, cst.Comma) else None
    start, end = source.span(arg)[0], source.span(comma or arg)[1]
    first, last = source.lines(arg)[0], source.lines(comma or arg)[1]
    before_line, rest = source.line_span(first)[0], source.text[end : source.line_span(last)[1]].strip()
    if not source.text[before_line:start].strip() and (not rest or rest.startswith("#")):
        return (Change(before_line, source.line_span(last)[1], ""),)
    before_end = source.span(before)[1]
    return (Change(before_end, source.span(arg)[1], ""),)
