"""Every format shows every audit: harmless, within its limits, and the same each time."""

from __future__ import annotations

import re
import unicodedata
from html.parser import HTMLParser

from auditor.reports import html, markdown, text
from auditor.reports import json as json_report
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from model_strategies import HOSTILE, audits, evidence
from rich.cells import cell_len
from rich.text import Text

from auditor.evidence import (
    Activations,
    Evidence,
    Gradients,
    LayerGradients,
    LayerUpdates,
    UnitActivity,
    Updates,
)
from auditor.judge import judge
from auditor.registry import rules
from auditor.result import Audit
from auditor.testing import evidence as built
from auditor.untrusted import UNSAFE

ADDRESSES = ("#", "http://", "https://", "data:image/png;base64,")
VOID = {"meta", "br", "img", "hr", "input"}
MARKDOWN = MarkdownIt("gfm-like", {"linkify": False, "html": True})


class Page(HTMLParser):
    """What a browser would make of a page: tags that are left open, scripts, handlers, addresses."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.count: dict[str, int] = {}
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        for name, value in attrs:
            leads = name in {"href", "src"} and not (value or "").startswith(ADDRESSES)
            if name.startswith("on") or name == "style" or leads:
                self.wrong.append(f"<{tag} {name}={value!r}>")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> at {self.getpos()}")


def harmless(shown: str) -> bool:
    return not any(unicodedata.category(c) in UNSAFE for c in shown if c != "\n")


@settings(max_examples=15)
@given(audits())
def test_html(audit: Audit) -> None:
    shown = html.render(audit)
    page = Page(shown)
    assert page.wrong == []
    assert page.open == []
    assert (page.count["script"], page.count["style"], page.count["body"]) == (2, 1, 1)  # one of them is data
    assert page.count.get("iframe", 0) + page.count.get("form", 0) + page.count.get("object", 0) == 0
    assert len(shown.encode("utf-8")) <= html.LIMIT
    assert harmless(shown)
    assert html.render(audit) == shown


@settings(max_examples=40)
@given(audits())
def test_markdown(audit: Audit) -> None:
    shown = markdown.render(audit)
    assert len(shown) <= markdown.LIMIT
    assert harmless(shown)
    for row in shown.splitlines():
        if row.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", row)) == 7, row
    seen = MARKDOWN.render(shown)
    assert not re.search(r"<(script|img|a|svg|style|h1|iframe)\b", seen)
    plain = re.sub(r"(?s)<code.*?</code>", "", seen)
    assert not re.search(r"@\w|://", plain)
    assert markdown.render(audit) == shown


@settings(max_examples=40)
@given(audits(), st.integers(60, 200), st.booleans(), st.booleans())
def test_text(audit: Audit, width: int, color: bool, unicode: bool) -> None:
    shown = text.render(audit, width=width, color=color, unicode=unicode)
    plain = Text.from_ansi(shown).plain if color else shown
    assert set(re.findall(r"\x1b\[[0-9;]*(.)", shown)) <= {"m"}
    assert harmless(re.sub(r"\x1b\[[0-9;]*m", "", shown))
    assert "\x1b" not in shown or color
    assert shown.isascii() or unicode
    assert max(cell_len(line) for line in plain.splitlines()) <= width
    assert text.render(audit, width=width, color=color, unicode=unicode) == shown


@settings(max_examples=40)
@given(audits())
def test_json(audit: Audit) -> None:
    shown = json_report.render(audit)
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert json_report.render(Audit.model_validate_json(shown)) == shown


def test_every_chart_shows_any_name() -> None:
    """Drawn names are rare among random audits, for a chart needs numbers that make sense."""
    names = HOSTILE[:16]
    made = [
        Gradients(steps=(0, 1), layers=tuple(LayerGradients(name=name, norms=(1.0, 2.0)) for name in names)),
        Updates(steps=(0, 1), layers=tuple(LayerUpdates(name=name, ratios=(1e-3, 1e-2)) for name in names)),
        Activations(steps=(0,), layers=tuple(
            UnitActivity(name=name, units=9, dead=5, dead_start=0, dead_end=5, samples=9, active_share=0.1)
            for name in names
        )),
    ]  # fmt: skip
    shown = html.render(judge(built(*made), rules()))
    page = Page(shown)
    assert shown.count('class="plot') == 4  # norms and ratios step by step, ratios per layer, dead units
    assert (page.wrong, page.open) == ([], [])
    assert harmless(shown)


@settings(max_examples=15)
@given(evidence(6))
def test_what_the_rules_make_of_any_evidence_can_be_shown(seen: Evidence) -> None:
    audit = judge(seen, rules())
    assert Page(html.render(audit)).wrong == []
    assert len(markdown.render(audit)) <= markdown.LIMIT
    assert harmless(text.render(audit))
