"""What the HTML page shows, made ready for its template: everything observed is neutral and short here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from auditor.evidence import Evidence
from auditor.result import Audit, Outcome, ReportedFinding, Verdict

from . import bars, clean, curves, heat, page_fix, painted, story, timeline, times, words
from .page_fix import Repair
from .painted import Line
from .svg import Chart

MOST_ROWS = 500
_LINK = re.compile(r"https?://[^\s\"'<>\\^`{}|]{1,300}")


@dataclass(frozen=True)
class Card:
    """One finding as the page shows it."""

    anchor: str
    finding: ReportedFinding
    message: str
    where: str
    place: str
    frame: tuple[Line, ...]
    repair: Repair
    measured: str
    limit: str
    since: str
    details: tuple[str, ...]
    links: tuple[tuple[str, bool], ...]
    charts: list[Chart] = field(default_factory=list)
    elsewhere: list[tuple[str, str]] = field(default_factory=list)
    consequences: tuple[Card, ...] = ()
    folded: str = ""  # what the fold with the consequences says
    between: str = ""  # the rule through which a consequence follows

    @property
    def group(self) -> story.Group:
        """The finding with its consequences."""
        return story.Group(self.finding, tuple(below.finding for below in self.consequences))


def every(cards: Sequence[Card]) -> list[Card]:
    """The cards with those of the consequences."""
    return [card for top in cards for card in (top, *top.consequences)]


class Drawn:
    """What takes long to draw, for several layouts of one audit."""

    def __init__(self, audit: Audit) -> None:
        self._run = audit.run
        self._repairs: dict[tuple[int, str], Repair] = {}
        self.charts = charts(audit.evidence)

    def repair(self, finding: ReportedFinding, key: str) -> Repair:
        """The fix of a finding of this audit, with the chart of its trial."""
        if (id(finding), key) not in self._repairs:
            self._repairs[id(finding), key] = page_fix.repair(self._run, finding.fix, key)
        return self._repairs[id(finding), key]


@dataclass(frozen=True)
class Layout:
    """The cards with their charts, the charts that no finding claims, the titles of those without a value to draw, and
    the anchor of the card with the pairs."""

    cards: list[Card]
    charts: list[Chart]
    claimed: list[Chart]
    undrawn: list[str]
    pairs_at: str
    unshown: int


def layout(audit: Audit, most: int = MOST_ROWS, drawn: Drawn | None = None) -> Layout:
    """Where each finding and each chart stands, with at most so many findings on a level.

    A chart stands there once, with the first finding that it shows; later ones link to it.
    """
    drawn = drawn or Drawn(audit)
    free = drawn.charts
    anchors: set[str] = set()
    homes: dict[str, Card] = {}
    result = []
    for group in story.groups(audit)[:most]:
        cause = _card(drawn, group.cause, anchors)
        below = tuple(
            replace(_card(drawn, finding, anchors), between=story.step_between(finding, group.cause))
            for finding in group.consequences[:most]
        )
        result.append(replace(cause, consequences=below, folded=story.consequences(group)))
    cards = every(result)
    shown = [(card, chart) for card in cards for chart in free if _shows(card, chart)]
    free = [chart for chart in free if all(chart is not repeated for _, repeated in shown)]
    for card in cards:
        for chart in free:
            if card.finding.rule not in chart.rules:
                continue
            if chart.key in homes:
                card.elsewhere.append((chart.key, chart.title))
            else:
                homes[chart.key] = card
                card.charts.append(chart)
    return Layout(
        cards=result,
        charts=[chart for chart in free if chart.key not in homes and not chart.empty],
        undrawn=[chart.title for chart in free if chart.key not in homes and chart.empty],
        claimed=[chart for chart in free if chart.key in homes] + _instead(shown),
        pairs_at=next((card.anchor for card in cards if card.finding.family == "leakage"), ""),
        unshown=len(audit.findings) - len(cards),
    )


def _instead(shown: Sequence[tuple[Card, Chart]]) -> list[Chart]:
    """Where the experiments of left-out charts are drawn, under the names of those."""
    found: dict[str, Chart] = {}
    for card, chart in shown:
        if card.repair.chart:
            found.setdefault(chart.key, replace(card.repair.chart, title=chart.title))
    return list(found.values())


def _shows(card: Card, chart: Chart) -> bool:
    """Whether the card's trial is the very experiment of the chart: one picture of it is enough."""
    trial = card.finding.fix.trial
    return trial is not None and card.repair.chart is not None and (trial.control, trial.treated) in chart.pairs


def charts(evidence: Evidence) -> list[Chart]:
    """Every chart that the evidence has numbers for."""
    drawn = [
        curves.loss(evidence),
        heat.gradients(evidence),
        heat.updates(evidence),
        curves.overfit(evidence),
        curves.sweep(evidence),
        *curves.replays(evidence),
        curves.left_over(evidence),
        bars.classes(evidence),
        bars.dead(evidence),
        bars.saturated(evidence),
        bars.updates(evidence),
        times.steps(evidence),
        timeline.draw(evidence.run),
    ]
    return [chart for chart in drawn if chart is not None]


def _card(drawn: Drawn, finding: ReportedFinding, anchors: set[str]) -> Card:
    location = finding.location
    anchor = _anchor(finding.id, anchors)
    return Card(
        anchor=anchor,
        finding=finding,
        message=clean.line(finding.message),
        where=clean.name(finding.where),
        place=words.place(location) + words.inside(location),
        frame=painted.frame(finding),
        repair=drawn.repair(finding, _anchor(f"{anchor}-tried", anchors)),
        measured=words.number(finding.measured) if finding.measured is not None else "",
        limit=words.number(finding.limit) if finding.limit is not None else "",
        since=words.since(finding.since),
        details=tuple(clean.line(detail) for detail in finding.detail[:12]),
        links=tuple((clean.line(link, 300), bool(_LINK.fullmatch(link))) for link in finding.references[:12]),
    )


def _anchor(wanted: str, taken: set[str]) -> str:
    """The finding's id, made fit for an address and unique on the page."""
    base = anchor = re.sub(r"[^A-Za-z0-9-]+", "-", wanted)[:60].strip("-") or "finding"
    number = 2
    while anchor in taken:
        anchor, number = f"{base}-{number}", number + 1
    taken.add(anchor)
    return anchor


# ----------------------------------------------------------------------------------------------------------- tables


@dataclass(frozen=True)
class Grid:
    """A table of the appendix. The first columns are text, those after `text` numbers."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()
    rest: int = 0

    def cut(self, most: int) -> Grid:
        """The same with at most so many rows."""
        return replace(self, rows=self.rows[:most], rest=self.rest + len(self.rows[most:]))


def grid(title: str, head: Sequence[str], rows: Iterable[Sequence[object]], numeric: Iterable[int] = ()) -> Grid | None:
    """A table of at most 500 rows; None without any."""
    source = iter(rows)
    made = tuple(tuple(clean.name(str(cell), 120) for cell in row) for row in islice(source, MOST_ROWS))
    rest = sum(1 for _ in source)
    return Grid(clean.name(title), tuple(head), made, frozenset(numeric), rest) if made else None


def rules(audit: Audit, outcome: Outcome) -> list[Verdict]:
    return sorted(story.outcomes(audit, outcome), key=lambda verdict: verdict.code)
