"""Text that scripts and their data made up: class names, labels, messages, paths. It is shown, and never acts.

The one place where such text is made harmless to a terminal, storable as UTF-8 and short. What a format has to escape
besides, it escapes itself.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

LONGEST_KEPT = 30_000  # characters of any text in the evidence; a traceback needs 20,000

# Control, format (bidirectional marks, zero-width), surrogate, line and paragraph separators: they move the cursor,
# reverse the reading order, or break the encoding. Shown as escapes, they are visible and inert.
UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_COMBINING_RUN = 3  # more marks than this on one letter are decoration that spills over other lines
_ROOM_FOR_LENGTH = 60  # a shorter limit has none to say how long the text is


def neutral(text: str) -> str:
    """`text` without anything that acts on a terminal or turns the reading direction. Line breaks and tabs stay."""
    if text.isascii():
        return text if text.isprintable() else text.translate(_CONTROLS)
    result: list[str] = []
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in {"Mn", "Me"} else 0
        if marks > _COMBINING_RUN:
            continue
        result.append(_visible(character) if category in UNSAFE and character not in "\n\t" else character)
    return "".join(result)


def _visible(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_CONTROLS = {code: _visible(chr(code)) for code in (*range(32), 127) if chr(code) not in "\n\t"}


def shortened(text: str, limit: int, length: int = 0) -> str:
    """`text` with its middle left out when longer than `limit`, because both ends of a qualified name tell something.

    Where there is room, it says how long the text is; `length` is that of the whole when `text` is not.
    """
    if len(text) <= limit:
        return text
    gap = f"…({length or len(text):,} characters)…" if limit >= _ROOM_FOR_LENGTH else "…"
    tail = (limit - len(gap)) // 2
    return text[: limit - len(gap) - tail] + gap + (text[-tail:] if tail > 0 else "")


def one_line(text: str, limit: int) -> str:
    """One neutral line: white space folded, shortened in the middle."""
    if len(text) > 8 * limit:  # never walk through megabytes of a label
        return _one_line(text[: 2 * limit] + text[-2 * limit :], limit, len(text))
    return _one_line(text, limit, 0)


@lru_cache(maxsize=4096)
def _one_line(text: str, limit: int, length: int) -> str:
    return shortened(neutral(" ".join(text.split())), limit, length)


def storable(text: str) -> str:
    """`text` as evidence keeps it: valid UTF-8, of bounded length. Lone surrogates, which stand for the bytes of
    file names and arguments that are no UTF-8, become visible escapes."""
    text = shortened(text, LONGEST_KEPT)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return shortened(text.encode("utf-8", "backslashreplace").decode("utf-8"), LONGEST_KEPT, len(text))
    return text
