"""Observed text at the lengths and in the forms that reports need; auditor.untrusted makes it harmless."""

from __future__ import annotations

from auditor.untrusted import neutral, one_line

LONGEST_NAME = 80
LONGEST_SENTENCE = 600

_PLAIN = str.maketrans(
    {
        "–": "-", "—": "-", "−": "-", "→": "->", "←": "<-", "×": "x", "·": "-", "…": "...", "≤": "<=", "≥": ">=",
        "‖": "||", "“": '"', "”": '"', "‘": "'", "’": "'", "±": "+/-", "≈": "~", "∞": "inf", "µ": "u", "\u00a0": " ",
    }
)  # fmt: skip


def line(text: str, limit: int = LONGEST_SENTENCE) -> str:
    """One neutral line: white space folded, shortened in the middle."""
    return one_line(text, limit)


def name(text: str, limit: int = LONGEST_NAME) -> str:
    """One neutral line, short enough for a table."""
    return line(text, limit)


def code(text: str, limit: int = 400) -> str:
    """One neutral line of source: indentation stays, tabs become spaces, the end is cut."""
    text = neutral(text[: 2 * limit].replace("\n", " ").expandtabs(4)).rstrip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def lines(text: str, most: int = 40, limit: int = 400) -> list[str]:
    """Several lines of source or a traceback; the middle is left out when there are too many."""
    found = [code(row, limit) for row in text[: 2 * most * limit].splitlines()]
    if len(found) <= most:
        return found
    head = most // 2
    left_out = len(found) - most
    return [*found[:head], f"… {left_out} lines left out …", *found[-(most - head) :]]


def head(text: str, most: int, limit: int = 400) -> tuple[list[str], int]:
    """The first lines of a diff, and how many more there are; an empty line of context keeps its blank."""
    rows = text.splitlines()
    return [code(row, limit) or " " * row.startswith(" ") for row in rows[:most]], len(rows[most:])


def ascii_only(text: str) -> str:
    """`text` in ASCII: usual signs by their likenesses, the rest as escapes."""
    return text.translate(_PLAIN).encode("ascii", "backslashreplace").decode("ascii")
