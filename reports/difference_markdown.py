"""A comparison of two audits for a pull request."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.compare import Difference

from . import difference, words
from .inert import details, inert, sentence, ticked

COMPARES = "markdown"
SUFFIXES = (".md",)

LIMIT = 60_000  # GitHub refuses comments above 65,536 characters
_RESERVE = 500
_MOST_ROWS = 60
_SEVERITIES = {"error": "✖", "warning": "⚠", "note": "•"}


def render(found: Difference) -> str:
    """At most 60,000 characters; what does not fit is counted."""
    page, left_out = "", 0
    for part in _parts(found):
        if len(page) + len(part) + 2 > LIMIT - _RESERVE:
            left_out += 1
        else:
            page += part + "\n\n"
    if left_out:
        page += f"*{words.plural(left_out, 'section')} left out here for want of room; the other formats have all.*\n\n"
    tool = found.new.tool
    return page + f"<sub>{inert(tool.name, 40)} {inert(tool.version, 20)}</sub>\n"


def _parts(found: Difference) -> Iterator[str]:
    yield "<!-- training-auditor:difference -->"
    yield f"## {difference.SIGNS[difference.kind(found)]} {inert(difference.sentence(found))}"
    yield inert(difference.sides(found))
    yield from _sections(found, {"new", "changed", "fixed", "open"})


def since(found: Difference) -> Iterator[str]:
    """What a report of one audit says about its baseline: its own table marks what is new."""
    yield f"Against the baseline: {inert(difference.sentence(found))}"
    yield from _sections(found, {"fixed", "open"})


def _sections(found: Difference, kinds: set[str]) -> Iterator[str]:
    """New and changed findings in the open, the others folded; then what makes the audits hard to compare."""
    for section in difference.sections(found):
        if section.kind not in kinds:
            continue
        table = "\n".join(_rows(section))
        title = f"{section.title} ({len(section.entries)})"
        yield f"**{title}**\n\n{table}" if section.kind in ("new", "changed") else details(title, table)
    if found.cautions:
        rows = "\n".join(f"- {sentence(caution)}" for caution in found.cautions)
        yield f"The two audits are not alike, which may explain differences:\n\n{rows}"


def _rows(section: difference.Section) -> Iterator[str]:
    yield "| | rule | finding | where |"
    yield "|---|---|---|---|"
    for entry in section.entries[:_MOST_ROWS]:
        finding = entry.finding
        said = sentence(entry.text, 240) + (f" ({sentence(entry.remark, 240)})" if entry.remark else "")
        cells = (
            f"{_SEVERITIES[finding.severity]} {finding.severity}",
            f"**{inert(finding.code, 16)}** {inert(finding.rule, 60)}",
            said,
            ticked(difference.place(finding.location)) or ticked(finding.where),
        )
        yield "| " + " | ".join(cells) + " |"
    if len(section.entries) > _MOST_ROWS:
        yield f"| | | and {len(section.entries) - _MOST_ROWS} more | |"
