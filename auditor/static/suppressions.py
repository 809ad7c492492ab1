"""Suppression comments: `# audit: ignore[LOS101] reason`, on the finding's line or alone on the line above."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.evidence import Location

if TYPE_CHECKING:
    from auditor.result import ReportedFinding
    from auditor.static.source import SourceFiles

_COMMENT = re.compile(r"#\s*audit:\s*ignore\[([^\]]+)\]\s*(.*)")


@dataclass(frozen=True)
class Comment:
    file: str
    line: int
    codes: tuple[str, ...]
    reason: str
    alone: bool

    def waives(self, finding: ReportedFinding) -> bool:
        return finding.code in self.codes or finding.rule in self.codes


def parse_comments(file: str, lines: Sequence[str]) -> Iterator[Comment]:
    """Real comment tokens only: the same text inside a string does not count."""
    if not any("audit:" in line for line in lines):
        return
    reader = io.StringIO("\n".join(lines) + "\n").readline
    try:
        for token in tokenize.generate_tokens(reader):
            match = _COMMENT.match(token.string) if token.type == tokenize.COMMENT else None
            if match:
                codes = tuple(code.strip() for code in match[1].split(",") if code.strip())
                alone = not token.line[: token.start[1]].strip()
                yield Comment(file, token.start[0], codes, match[2].strip(), alone)
    except (tokenize.TokenError, SyntaxError):
        return


def comments(sources: SourceFiles, location: Location | None) -> Iterator[Comment]:
    """The comments that reach a location."""
    if location is None:
        return
    for comment in sources.comments(location.file):
        if comment.line == location.line or (comment.alone and comment.line == location.line - 1):
            yield comment
