"""Lines of styled text for a terminal of any width, with or without colours and Unicode."""

from __future__ import annotations

import re
from collections.abc import Iterable
from io import StringIO
from typing import TYPE_CHECKING

from . import clean

if TYPE_CHECKING:
    from rich.text import Text

_SIGNS = {
    "error": ("✖", "x"),
    "warning": ("⚠", "!"),
    "note": ("•", "*"),
    "pass": ("✔", "+"),
    "not-applicable": ("–", "-"),
    "inconclusive": ("?", "?"),
    "suppressed": ("○", "o"),
    "broken": ("✖", "x"),
}
_NARROWEST = 40
# What a line must not end within: '1 = 161', '3.2 s', '95 %', 'p < 0.01'.
_TOGETHER = re.compile(r"(?<=\S) (?:[=<>≤≥→]|->) (?=\S)|(?<=\d) (?=(?:%|s|ms|min|MB|GB)(?![\w]))")
_GLUE = "\ue000"  # of the private use area, as wide as the blank that it stands for


class Page:
    """Lines of styled text, wrapped to the width; plain ASCII without `unicode`, no escapes without `color`."""

    def __init__(self, width: int, color: bool, unicode: bool) -> None:
        from rich.console import Console

        self.width, self.color, self.unicode = max(width, _NARROWEST), color, unicode
        self._out = StringIO()
        self._console = Console(
            file=self._out,
            width=self.width,
            force_terminal=color,
            color_system="standard" if color else None,
            no_color=not color,
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
            _environ={},  # the caller has decided; NO_COLOR and COLUMNS were its business
        )

    def text(self) -> str:
        rows = (row.rstrip() for row in self._out.getvalue().strip("\n").split("\n"))
        return "\n".join(rows) + "\n"

    def plain(self, text: str) -> str:
        """Text that this terminal can show."""
        return text if self.unicode else clean.ascii_only(text)

    def sign(self, kind: str) -> str:
        return _SIGNS[kind][0 if self.unicode else 1]

    def styled(self, *parts: str | tuple[str, str]) -> Text:
        from rich.text import Text

        line = Text()
        for part in parts:
            words_, style = (part, "") if isinstance(part, str) else part
            line.append(self.plain(words_), style)
        return line

    def put(self, *parts: str | tuple[str, str], indent: int = 0, hang: int = 0) -> None:
        """One paragraph; its further lines are indented by `hang` more."""
        room = max(self.width - indent - hang, 16)
        line = self.styled(*parts)
        line.plain = _TOGETHER.sub(lambda found: found[0].replace(" ", _GLUE), line.plain)
        for number, row in enumerate(line.wrap(self._console, room, overflow="fold")):
            row.rstrip()
            row.plain = row.plain.replace(_GLUE, " ")
            self._write(row, indent + (hang if number else 0))

    def flow(self, chunks: Iterable[tuple[str, str]], between: str = "  ", indent: int = 0) -> None:
        """Chunks side by side, each kept whole where it can be, as many a line as the width has room for."""
        row, room = self.styled(), self.width - indent
        for chunk in chunks:
            piece = self.styled((between, chunk[1]) if row else "", chunk)
            if row and row.cell_len + piece.cell_len > room:
                self._write(row, indent)
                row, piece = self.styled(), self.styled(chunk)
            row.append_text(piece)
            *full, row = row.wrap(self._console, room, overflow="fold") if row.cell_len > room else [row]
            for line in full:
                self._write(line, indent)
        self._write(row, indent)

    def _write(self, row: Text, indent: int) -> None:
        from rich.text import Text

        self._console.print(Text(" " * indent).append_text(row), no_wrap=True, overflow="ignore", crop=False)

    def cut(self, *parts: str | tuple[str, str], indent: int = 0) -> None:
        """One line of code, cut at the width."""
        line = self.styled(*parts)
        room = self.width - indent
        if line.cell_len > room:
            line.truncate(room - (1 if self.unicode else 3))
            line.append("…" if self.unicode else "...", "dim")
        self._write(line, indent)

    def gap(self) -> None:
        self._console.print()
