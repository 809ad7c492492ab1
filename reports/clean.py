"""Makes observed text harmless: names, labels and messages come from scripts and data that nobody has vetted."""

from __future__ import annotations

import unicodedata

LONGEST_NAME = 80
LONGEST_SENTENCE = 600

# Control, format (bidirectional marks, zero-width), surrogate, line and paragraph separators: they move the cursor,
# reverse the reading order, or break the encoding. Shown as escapes, they are visible and inert.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_COMBINING_RUN = 3  # more marks than this on one letter are decoration that spills over other lines

_PLAIN = str.maketrans(
    {
        "–": "-", "—": "-", "−": "-", "→": "->", "←": "<-", "×": "x", "·": "-", "…": "...", "≤": "<=", "≥": ">=",
        "‖": "||", "“": '"', "”": '"', "‘": "'", "’": "'", "±": "+/-", "≈": "~", "∞": "inf", "µ": "u", "\u00a0": " ",
    }
)  # fmt: skip


def _visible(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def neutral(text: str) -> str:
    """`text` without anything that acts on a terminal or turns the reading direction. Line breaks and tabs stay."""
    result: list[str] = []
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in {"Mn", "Me"} else 0
        if marks > _COMBINING_RUN:
            continue
        result.append(_visible(character) if category in _UNSAFE and character not in "\n\t" else character)
    return "".join(result)


def middle(text: str, limit: int = LONGEST_NAME) -> str:
    """`text` with its middle left out when longer than `limit`: both ends of a qualified name tell something."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return text[: limit - 1 - tail] + "…" + (text[-tail:] if tail else "")


def line(text: str, limit: int = LONGEST_SENTENCE) -> str:
    """One neutral line: white space folded, shortened in the middle."""
    if len(text) > 8 * limit:  # never walk through megabytes of a label
        text = middle(text, 8 * limit)
    return middle(neutral(" ".join(text.split())), limit)


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


def ascii_only(text: str) -> str:
    """`text` in ASCII: usual signs by their likenesses, the rest as escapes."""
    return text.translate(_PLAIN).encode("ascii", "backslashreplace").decode("ascii")
