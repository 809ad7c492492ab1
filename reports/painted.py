"""Source lines and diffs in painted pieces, for the HTML page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from auditor.result import ReportedFinding

from . import clean, story


@dataclass(frozen=True)
class Line:
    """One line of a code frame or a diff, in painted pieces."""

    number: int
    pieces: tuple[tuple[str, str], ...]
    marked: bool = False
    kind: str = ""


_PYTHON = re.compile(
    r"(?P<comment>#.*)"
    r"|(?P<string>[rbfuRBFU]{0,2}(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'))"
    r"|(?P<keyword>\b(?:and|as|assert|async|await|break|class|continue|def|del|elif|else|except|False|finally|for|from"
    r"|global|if|import|in|is|lambda|None|nonlocal|not|or|pass|raise|return|True|try|while|with|yield)\b)"
    r"|(?P<value>\b\d[\d_.eE]*\b)"
)


def painted(code: str) -> tuple[tuple[str, str], ...]:
    """(class, text) pieces of one line of Python; a rough painter, as half a statement is no program."""
    pieces: list[tuple[str, str]] = []
    end = 0
    for match in _PYTHON.finditer(code):
        if match.start() > end:
            pieces.append(("", code[end : match.start()]))
        pieces.append((str(match.lastgroup), match[0]))
        end = match.end()
    return (*pieces, ("", code[end:])) if code[end:] else tuple(pieces)


def frame(finding: ReportedFinding) -> tuple[Line, ...]:
    """The lines around a finding's place."""
    rows = story.dedent([clean.code(row.text, 200) for row in finding.source])
    marked = finding.location.line if finding.location else 0
    return tuple(
        Line(row.number, painted(text), row.number == marked) for row, text in zip(finding.source, rows, strict=True)
    )


def diff(rows: Iterable[str]) -> Iterator[Line]:
    """The lines of a unified diff; the names of the files and the hunks' headers are not painted as code."""
    inside = False
    for row in rows:
        inside = inside or row.startswith("@@")
        header = row.startswith("@@") or (not inside and row.startswith(("+++", "---")))
        kind = "hunk" if header else {"+": "added", "-": "removed"}.get(row[:1], "")
        yield Line(0, ((("", row),) if header else (("", row[:1]), *painted(row[1:]))), kind=kind)
