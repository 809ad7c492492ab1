"""Unified diffs: written for reports, and read again to be applied to the very text that they were made of."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from auditor.edits.changes import Change

CONTEXT = 3
_BREAK = re.compile(r"\r\n|\n|\r")
_TOKEN = re.compile(r"\.?\d(?:[eE][+-]|[\w.])*|\w+|\s+|.", re.DOTALL)
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,\d+)? @@")


class Mismatch(Exception):
    """The diff is damaged, or was not made of this text."""


def split(text: str) -> list[str]:
    """The lines that Python counts, without their breaks."""
    lines = _BREAK.split(text)
    return lines if lines[-1] else lines[:-1]


def unified(name: str, before: str, after: str) -> str:
    """The diff of one file, with a/ and b/ before its name; line breaks are not part of it. '' without a change."""
    rows = difflib.unified_diff(split(before), split(after), f"a/{name}", f"b/{name}", n=CONTEXT, lineterm="")
    return "".join(row + "\n" for row in rows)


@dataclass(frozen=True)
class Row:
    """One row of a hunk: ' ' for what stays, '-' for what goes, '+' for what comes."""

    sign: str
    text: str


@dataclass(frozen=True)
class Hunk:
    line: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class FileDiff:
    name: str
    hunks: tuple[Hunk, ...]


def parse(diff: str) -> list[FileDiff]:
    """Raises Mismatch when it is no diff of ours."""
    found: list[tuple[str, list[Hunk]]] = []
    rows = diff.split("\n")
    place = 0
    while place < len(rows):
        row = rows[place]
        if row.startswith("--- a/") and place + 1 < len(rows) and rows[place + 1] == f"+++ b/{row[6:]}":
            found.append((row[6:], []))
            place += 2
        elif (head := _HUNK.match(row)) and found:
            body, place = _body(rows, place + 1, int(head[2] or 1))
            # A hunk that removes nothing names the line before it.
            found[-1][1].append(Hunk(int(head[1]) + (head[2] == "0"), body))
        elif not row:
            place += 1
        else:
            raise Mismatch("it is not a diff")
    return [FileDiff(name, tuple(hunks)) for name, hunks in found]


def _body(rows: Sequence[str], start: int, old: int) -> tuple[tuple[Row, ...], int]:
    """Rows until as many old lines as announced are there, and the added ones behind them."""
    found: list[Row] = []
    place = start
    while place < len(rows) and rows[place][:1] in (" ", "-", "+"):
        sign, text = rows[place][0], rows[place][1:]
        if sign != "+":
            if not old:
                break
            old -= 1
        found.append(Row(sign, text))
        place += 1
    if old:
        raise Mismatch("it is cut short")
    return tuple(found), place


def changes(file: FileDiff, text: str) -> list[Change]:
    """The diff of a file as changes of its text, each as small as can be. Raises Mismatch on another text."""
    lines = _Lines(text)
    return [change for hunk in file.hunks for change in _of_hunk(hunk, lines)]


class _Lines:
    """The lines of a text with their offsets."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = split(text)
        self.starts = [0]
        self.ends: list[int] = []  # before the line break
        for line in self.lines:
            self.ends.append(self.starts[-1] + len(line))
            found = _BREAK.match(text, self.ends[-1])
            self.starts.append(found.end() if found else self.ends[-1])

    def line_break(self, place: int) -> str:
        """How a line ends, or the one before it, or the first one."""
        for each in (place, place - 1, 0):
            if 0 <= each < len(self.lines) and self.ends[each] < self.starts[each + 1]:
                return self.text[self.ends[each] : self.starts[each + 1]]
        return "\n"


def _of_hunk(hunk: Hunk, lines: _Lines) -> Iterator[Change]:
    place = hunk.line - 1
    old = [row.text for row in hunk.rows if row.sign != "+"]
    if place < 0 or lines.lines[place : place + len(old)] != old:
        raise Mismatch("the text is another one")
    for stays, group in itertools.groupby(hunk.rows, key=lambda row: row.sign == " "):
        rows = list(group)
        gone = [row.text for row in rows if row.sign == "-"]
        if not stays:
            yield from _of_group(place, len(gone), [row.text for row in rows if row.sign == "+"], lines)
        place += len(rows) if stays else len(gone)


def _of_group(place: int, gone: int, new: Sequence[str], lines: _Lines) -> Iterator[Change]:
    """Lines that go and lines that come, next to each other."""
    line_break = lines.line_break(place)
    if not gone:
        at = lines.starts[place]
        rows = "".join(line + line_break for line in new)
        unfinished = place == len(lines.lines) > 0 and lines.ends[-1] == lines.starts[-1]
        yield Change(at, at, line_break + rows.removesuffix(line_break) if unfinished else rows)
    elif not new:
        yield Change(lines.starts[place], lines.starts[place + gone], "")
    elif len(new) == gone:
        for number, line in enumerate(new, place):
            yield _smallest(lines.text, lines.starts[number], lines.ends[number], line)
    else:
        yield _smallest(lines.text, lines.starts[place], lines.ends[place + gone - 1], line_break.join(new))


def _smallest(text: str, start: int, end: int, new: str) -> Change:
    """The change without the tokens that stay at its beginning and end: half a number is never changed."""
    before, after = _TOKEN.findall(text[start:end]), _TOKEN.findall(new)
    left = _common(before, after)
    right = _common(before[left:][::-1], after[left:][::-1])
    kept = len("".join(before[:left])), len("".join(before[len(before) - right :]))
    return Change(start + kept[0], end - kept[1], new[kept[0] : len(new) - kept[1]])


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many tokens both begin with."""
    pairs = zip(one, other, strict=False)
    return next((count for count, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
