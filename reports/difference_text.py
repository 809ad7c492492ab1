"""A comparison of two audits for a terminal."""

from __future__ import annotations

from auditor.compare import Difference

from . import clean, difference
from .terminal import Page

COMPARES = "text"
SUFFIXES = (".txt",)

_SEVERITIES = {"error": "bold red", "warning": "bold yellow", "note": "bold blue"}
_STYLES = {"worse": "bold red", "mixed": "bold yellow", "better": "bold green", "same": "bold green"}
_KINDS = {"worse": "error", "mixed": "warning", "better": "pass", "same": "pass"}
_MOST = 50


def render(found: Difference, *, width: int = 80, color: bool = False, unicode: bool = True) -> str:
    """Lines no longer than `width` cells; plain ASCII without `unicode`, no escapes without `color`."""
    page = Page(width, color, unicode)
    kind = difference.kind(found)
    page.put((f"{page.sign(_KINDS[kind])} ", _STYLES[kind]), (difference.sentence(found), _STYLES[kind]), hang=2)
    page.put((difference.sides(found), "dim"), indent=2)
    for section in difference.sections(found):
        page.gap()
        page.put((f"{section.title} ({len(section.entries)})", "bold"))
        for entry in section.entries[:_MOST]:
            _entry(page, entry)
        if len(section.entries) > _MOST:
            page.put((f"and {len(section.entries) - _MOST} more", "dim"), indent=2)
    if found.cautions:
        page.gap()
        for caution in found.cautions:
            page.put(("not alike ", "cyan"), clean.line(caution), hang=2)
    return page.text()


def _entry(page: Page, entry: difference.Entry) -> None:
    finding = entry.finding
    page.put(
        (f"{page.sign(finding.severity)} {finding.severity} ", _SEVERITIES[finding.severity]),
        (difference.called(finding), "bold"),
        (f" {difference.place(finding.location)}" if finding.location else "", "dim"),
        indent=2,
        hang=2,
    )
    page.put(clean.line(entry.text), indent=4)
    if entry.remark:
        page.put((clean.line(entry.remark), "dim"), indent=4)


def against(page: Page, found: Difference) -> None:
    """The line that a report of one audit has about its baseline."""
    page.put(("against the baseline ", "cyan"), difference.sentence(found), hang=2)
    for caution in found.cautions:
        page.put(("not alike ", "cyan"), clean.line(caution), hang=2)
