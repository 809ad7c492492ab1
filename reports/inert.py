"""Observed text in Markdown: it formats nothing, links to nothing, opens no HTML and pings nobody."""

from __future__ import annotations

import re
from collections.abc import Iterable

from . import clean, story

_SPECIAL = re.compile(r"([\\`*_\[\]|~$]|^[-+=])")
_NUMBERED = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")
_SHORTEST_HASH = 7
# What GitHub and GitLab turn into mentions and links: @name, #1, GH-1, addresses, commits, !1, %1, &1.
_LINKING = re.compile(
    r"[@#]|://|\bwww\.|\bGH-|\bmailto:|\bxmpp:|\b[0-9a-f]{7,40}\b|(?<![\w!%])[!%](?=[\w\"])|&amp;(?=\w)", re.IGNORECASE
)
_SPAN = re.compile(r"(`[^`\n]+`)")


def html(text: str, limit: int = clean.LONGEST_SENTENCE) -> str:
    """Observed text that opens no HTML, links to nothing and pings nobody."""
    text = clean.line(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A host looks for mentions and links in the rendered text, so an entity for @ would not do; a space of no width
    # in or after it does.
    return _LINKING.sub(_broken, text)


def _broken(found: re.Match[str]) -> str:
    """With a space of no width behind its first character, which may be an entity. Of a commit's hash seven digits are
    enough for a link, so it is cut into pieces."""
    text = found[0]
    if len(text) >= _SHORTEST_HASH and text.isalnum():
        return "&#8203;".join(text[at : at + _SHORTEST_HASH - 1] for at in range(0, len(text), _SHORTEST_HASH - 1))
    first = "&amp;" if text == "&amp;" else text[:1]
    return f"{first}&#8203;{text[len(first) :]}"


def inert(text: str, limit: int = clean.LONGEST_SENTENCE) -> str:
    """The same where Markdown is read: it formats nothing and breaks no table."""
    return _NUMBERED.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", html(text, limit)))


def ticked(text: str, limit: int = clean.LONGEST_NAME) -> str:
    """Observed text as a code span."""
    text = clean.line(text, limit)
    if not text:
        return ""
    return f"<code>{inert(text, limit)}</code>" if set(text) & set("`|\\@") else f"`{text}`"


def sentence(text: str, limit: int = clean.LONGEST_SENTENCE) -> str:
    """One paragraph in which `code` may stand; everything else is inert."""
    parts = []
    for part in _SPAN.split(clean.line(text, limit)):
        if _SPAN.fullmatch(part):
            parts.append(ticked(part.strip("`"), 200))
        elif part:
            around = (" " if part[0] == " " else "", " " if part[-1] == " " and part.strip() else "")
            parts.append(around[0] + inert(part, limit) + around[1])
    return "".join(parts)


def prose(markdown: str) -> str:
    """A rule's page: paragraphs, lists, bold and code stay; HTML, links, images and mentions do not."""
    return "\n\n".join(_paragraph(block) for block in story.blocks(markdown))


def labelled(label: str, markdown: str) -> str:
    """The same after a bold label, on its line unless it begins with a list or with code."""
    text = prose(markdown)
    return f"**{label}**{chr(10) * 2 if text.startswith(('- ', '```')) else ' '}{text}"


def _paragraph(block: story.Block) -> str:
    if block.code:
        return fenced(block.text.splitlines(), "python")
    bullet = block.text.startswith(("- ", "* "))
    return ("- " if bullet else "") + sentence(block.text[2 * bullet :], 1200).replace("\\*", "*")


def fenced(rows: Iterable[str], language: str) -> str:
    rows = list(rows)
    longest = max((len(run) for row in rows for run in re.findall(r"`+", row)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([fence + language, *rows, fence])


def details(summary: str, body: str) -> str:
    return f"<details>\n<summary>{summary}</summary>\n\n{body}\n\n</details>"
