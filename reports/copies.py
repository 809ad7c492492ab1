"""A finding for the clipboard, as Markdown and as plain text: what one pastes into an issue or a chat."""

from __future__ import annotations

import json

from auditor.result import Audit

from . import markdown, story, text

_LONGEST = 8_000  # characters of one finding


class Copies:
    """The findings of one audit, each written once."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._made: dict[int, dict[str, str]] = {}

    def of(self, group: story.Group) -> dict[str, str]:
        """{'markdown': ..., 'text': ...}; a text that is too long to paste is cut."""
        if id(group.cause) not in self._made:
            made = {"markdown": markdown.one(self._audit, group), "text": text.one(self._audit, group)}
            self._made[id(group.cause)] = {kind: _cut(said) for kind, said in made.items()}
        return self._made[id(group.cause)]


def _cut(said: str) -> str:
    return said if len(said) <= _LONGEST else said[: _LONGEST - 2].rstrip() + "\n…"


def block(copies: dict[str, dict[str, str]]) -> str:
    """By the findings' anchors, as JSON that cannot end the element that it stands in."""
    return json.dumps(copies, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e")
