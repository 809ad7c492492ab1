"""What an edit is: pieces of the text that give way to others. The rest of the text stays as it is, byte for byte."""

from __future__ import annotations

import ast
import itertools
import warnings
from collections.abc import Iterable
from dataclasses import dataclass


class NoEdit(Exception):
    """Raised instead of guessing: the text is the reason, for the reader of a report."""


@dataclass(frozen=True, order=True)
class Change:
    """`text` takes the place of what is from `start` to `end`, offsets in characters of the original."""

    start: int
    end: int
    text: str

    @property
    def whole_lines(self) -> bool:
        """It only adds lines."""
        return self.start == self.end and self.text.endswith(("\n", "\r"))

    def meets(self, other: Change) -> bool:
        """Both cannot be made, because the outcome would depend on their order."""
        if self.start == self.end == other.start == other.end:
            return self != other and not (self.whole_lines and other.whole_lines)
        return self.start < other.end and other.start < self.end


def apply(text: str, changes: Iterable[Change]) -> str:
    """The text after all changes; equal ones are made once. Raises NoEdit when two of them meet."""
    ordered = sorted(dict.fromkeys(changes), key=lambda change: (change.start, change.end))
    for first, second in itertools.pairwise(ordered):
        if first.meets(second):
            raise NoEdit("two changes touch the same place")
    pieces: list[str] = []
    reached = 0
    for change in ordered:
        pieces += (text[reached : change.start], change.text)
        reached = change.end
    return "".join(pieces) + text[reached:]


def check_parses(text: str) -> None:
    """Raises NoEdit when the text is not Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the user's own escapes
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise NoEdit("the changed file would not be valid Python") from None
