"""The report as one self-contained page: no request leaves it, and it reads well with scripts blocked."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from auditor.result import Audit, Outcome, Verdict

from . import appendix, categories, clean, copies, gauge, page, page_fix, pairs, story, words
from .portable import portable

if TYPE_CHECKING:
    from markupsafe import Markup

Prose = Callable[[str], "Markup"]

FORMAT = "html"
SUFFIXES = (".html", ".htm")

LIMIT = 2_000_000  # bytes; mail and artifact stores take it, and it opens at once
_MOST = (500, 100, 20, 4, 1)  # of everything that is listed; the first with which the page keeps its limit

_MOST_CARDS = 100
_MOST_COPIES = 40  # findings that are also there for the clipboard

_HERE = Path(__file__).parent
_LONGEST_PROSE = 6_000
_CONFIDENCE = {
    "confirmed": "Confirmed: an exact identity, or an experiment with a control, shows it.",
    "identity": "Confirmed: an exact identity shows it.",
    "experiment": "Confirmed: an experiment with your program as its own control shows it.",
    "trial": "Confirmed: its fix was tried on your loop, against the loop as it is, and helped each time.",
    "suspected": "Suspected: a statistic points to it; nothing was tried that would prove it.",
}


def render(audit: Audit) -> str:
    """The page, at most 2 MB; what is left out is counted. The same audit gives the same bytes."""
    audit, _ = portable(audit)
    text, tables, prose = "", appendix.tables(audit), (cache(_prose()), cache(_prose(links=False)))
    drawn, copied = page.Drawn(audit), copies.Copies(audit)  # those of many findings take a while
    layout = cache(lambda most: page.layout(audit, most, drawn))
    for most in _MOST:
        shown = layout(min(most, _MOST_CARDS))
        text = _page(audit, shown, most, [table.cut(most) for table in tables], prose, copied)
        if len(text.encode("utf-8")) <= LIMIT:
            break
    return text


def _page(
    audit: Audit,
    layout: page.Layout,
    most: int,
    tables: list[page.Grid],
    prose: tuple[Prose, Prose],
    copied: copies.Copies,
) -> str:
    """The page with at most so many findings and verdicts."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters.update(
        number=words.number,
        seconds=words.seconds,
        overhead=words.overhead,
        name=clean.name,
        prose=prose[0],
        unlinked=prose[1],
        spans=_spans,
        plural=words.plural,
        measured=lambda said: words.measured(said.measured, said.limit),
        ratio=lambda said: gauge.ratio(said.measured, said.limit),
        scale=lambda said: gauge.picture(said.measured, said.limit),
    )
    copied_cards = {card.anchor: copied.of(card.group) for card in page.every(layout.cards)[:_MOST_COPIES]}
    style, script = _asset("report.css"), _asset("report.js")
    return environment.get_template("report.html.j2").render(
        audit=audit,
        run=audit.run,
        style=style,
        script=script,
        policy=_policy(style, script),
        verdict=story.conclusion(audit),
        command=words.command(audit.run),
        counts=words.counts(audit.summary),
        categories=categories.states(audit),
        cards=layout.cards,
        first=layout.cards[: story.FIRST],
        together=page_fix.together(audit.together) if audit.together else None,
        copied=copied_cards,
        copies=copies.block(copied_cards),
        charts=layout.charts,
        claimed=layout.claimed,
        undrawn=layout.undrawn,
        unshown=layout.unshown,
        leaks=pairs.leaks(audit.evidence, most),
        pairs_at=layout.pairs_at,
        groups=_decided(audit, most),
        suppressed=audit.suppressed[:most],
        tables=tables,
        traceback=clean.lines(audit.run.crash.traceback, most=60) if audit.run.crash else [],
        crash_place=words.place(audit.run.crash.location) if audit.run.crash else "",
        diverted=[words.path(file) for file in audit.run.diverted[:100]],
        notes=[clean.line(note) for note in (*audit.run.notes, *audit.notes)[:100]],
        confidence=_CONFIDENCE,
        effort=story.effort(audit),
    )


def _decided(audit: Audit, most: int) -> list[tuple[str, str, str, list[Verdict], int]]:
    """(kind, title, what it means, verdicts, how many more) of every outcome but `fail`."""
    rows = (
        ("pass", "Passed", "What was measured stayed within its limit.", Outcome.PASS),
        (
            "inconclusive",
            "Inconclusive",
            "The evidence did not decide; the reason says what would.",
            Outcome.INCONCLUSIVE,
        ),
        ("not-applicable", "Not applicable", "The question makes no sense for this program.", Outcome.NOT_APPLICABLE),
        ("broken", "Rules that failed", "A bug in the rule, not in your program.", Outcome.ERROR),
    )
    return [
        (kind, title, text, found[:most], len(found[most:]))
        for kind, title, text, outcome in rows
        if (found := page.rules(audit, outcome))
    ]


def _asset(name: str) -> str:
    return "\n" + (_HERE / name).read_text(encoding="utf-8").strip() + "\n"


def _policy(style: str, script: str) -> str:
    """Nothing may be loaded; only this style and this script may act. A reviewer can check that by reading one line."""
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)
    )
    return (
        f"default-src 'none'; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )


def _prose(*, links: bool = True) -> Prose:
    """A filter: Markdown of a rule's page to HTML, without raw HTML, images, headings or scripts in links. A fix may
    quote names that the script made up: without `links`, they cannot lead anywhere."""
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    reader = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "heading", "lheading"])
    if not links:
        reader.disable(["link", "autolink", "reference"])

    def prose(text: str) -> Markup:
        rows = (clean.code(row, 1200) for row in text[:_LONGEST_PROSE].splitlines())
        found = reader.render("\n".join(rows))
        return Markup(found.replace("<a href=", '<a rel="noopener noreferrer" href='))

    return prose


_SPAN = re.compile(r"`([^`\n]+)`")


def _spans(text: str) -> Markup:
    """One neutral line in which `code` is set as code."""
    from markupsafe import Markup, escape

    parts = _SPAN.split(clean.line(text))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts)
    )
