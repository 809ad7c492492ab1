"""A finding for the clipboard, as Markdown and as plain text: what one pastes into an issue or a chat."""

from __future__ import annotations

import json

from auditor.result import Audit

from . import markdown, story, text

_LONGEST = 8_000  # characters of one finding


def of(audit: Audit, group: story.Group) -> dict[str, str]:
    """{'markdown': ..., 'text': ...}; a text that is too long to paste is cut."""
    made = {"markdown": markdown.one(audit, group), "text": text.one(audit, group)}
    return {kind: _cut(said) for kind, said in made.items()}


def _cut(said: str) -> str:
    return said if len(said) <= _LONGEST else said[: _LONGEST - 2].rstrip() + "\n…"


def block(copies: dict[str, dict[str, str]]) -> str:
    """By the findings' anchors, as JSON that cannot end the element that it stands in."""
    return json.dumps(copies, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e")
