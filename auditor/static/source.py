"""Lines of the user's source, read once."""

from __future__ import annotations

import tokenize
from collections.abc import Iterator
from pathlib import Path

from auditor.evidence import Location
from auditor.result import SourceLine
from auditor.static.suppressions import Comment, parse_comments

FRAME_RADIUS = 2
MAX_LINE = 400  # a minified line must not fill a report


_LARGEST = 10_000_000  # bytes


def _regular(file: str) -> str:
    """The path, unless reading it might never end. Saved evidence may name any. Raises OSError or ValueError."""
    if not Path(file).is_file() or Path(file).stat().st_size > _LARGEST:
        raise OSError(f"{file} is no source file")
    return file


class SourceFiles:
    """Reads files on demand; a file that is gone or unreadable gives empty lines, never an error."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[str, ...]] = {}

    def _lines(self, file: str) -> tuple[str, ...]:
        if file not in self._files:
            try:
                with tokenize.open(_regular(file)) as source:
                    self._files[file] = tuple(source.read().splitlines())
            except (OSError, SyntaxError, ValueError):
                self._files[file] = ()
        return self._files[file]

    def line(self, location: Location) -> str:
        lines = self._lines(location.file)
        return lines[location.line - 1] if location.line <= len(lines) else ""

    def frame(self, location: Location) -> tuple[SourceLine, ...]:
        """The location's line with its neighbours."""
        lines = self._lines(location.file)
        first = max(1, location.line - FRAME_RADIUS)
        last = min(len(lines), location.line + FRAME_RADIUS)
        return tuple(SourceLine(number=n, text=lines[n - 1][:MAX_LINE]) for n in range(first, last + 1))

    def comments(self, file: str | None = None) -> Iterator[Comment]:
        """Suppression comments of one file, or of every file read so far."""
        for name in [file] if file else list(self._files):
            yield from parse_comments(name, self._lines(name))

    def display(self, file: str) -> str:
        """The path relative to the current directory where it lies below it."""
        try:
            return str(Path(file).relative_to(Path.cwd()))
        except (ValueError, OSError):
            return file
