"""The run as a timeline: each phase of the probe in its place, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from auditor.evidence import Phase, Run

from . import clean, svg
from .scale import Axis, finite
from .svg import Chart, Table
from .words import number, percent, plural, seconds

_KEY, _TITLE = "chart-timeline", "Timeline of the run"
_ROW = 20  # pixels
_MOST_ROWS = 20
_ROOM = 72.0  # percent: right of it, a narrow screen has no room for a time
_LONGEST_NAME = 34  # characters; the names of our own phases are shorter
_START, _WATCH, _DATA, _EXPERIMENT, _FIX = "starting", "watching", "reading the data", "experiments", "trying fixes"
_KINDS = {"start-up": _START, "observe": _WATCH, "look on": _WATCH, "compare data sets": _DATA}
_COLOURS = {_START: "other", _WATCH: "s1", _DATA: "s4", _EXPERIMENT: "s2", _FIX: "s3"}


@dataclass(frozen=True)
class _Span:
    """A phase that took time: its name, its kind, and when it began, in seconds from the first one's start."""

    name: str
    kind: str
    start: float
    length: float
    status: str


def draw(run: Run) -> Chart | None:
    """A row a phase, in the order in which they ran; the shortest are drawn as one where there are many."""
    spans = _spans(run.phases)
    whole = sum(span.length for span in spans)
    if len(spans) < 2 or not whole > 0:
        return None
    rows = _rows(spans)
    x = Axis(0, max(rows[-1].start + rows[-1].length, *(row.start + row.length for row in rows)))
    conclusion = _conclusion(run, spans, whole)
    table = Table(
        ("phase", "kind", "began at, s", "time, s", "result"),
        tuple((s.name, s.kind, number(_short(s.start)), number(_short(s.length)), s.status) for s in spans),
        "Phases that were skipped stand in the appendix, with the reason." if len(spans) < len(run.phases) else "",
    )
    kinds = [kind for kind in _COLOURS if any(span.kind == kind for span in spans)]
    legend = tuple((f"{_COLOURS[kind]} box", _share(kind, spans, whole)) for kind in kinds)
    return Chart(_KEY, _TITLE, conclusion, _figure(conclusion, rows, x), legend, table, wide=True)


def _spans(phases: Sequence[Phase]) -> list[_Span]:
    """What took time. A phase that was skipped cost next to nothing, and starts nothing."""
    found: list[_Span] = []
    now = 0.0
    for phase in phases:
        if phase.status == "skipped" or not finite(phase.seconds) or phase.seconds < 0:
            continue
        kind = _KINDS.get(phase.name, _FIX if phase.name.startswith("try ") else _EXPERIMENT)
        found.append(_Span(clean.name(phase.name, 60), kind, now, phase.seconds, phase.status))
        now += phase.seconds
    return found


def _rows(spans: Sequence[_Span]) -> list[_Span]:
    """The longest, in their order; what is left out shows as gaps."""
    if len(spans) <= _MOST_ROWS:
        return list(spans)
    kept = sorted(spans, key=lambda span: -span.length)[:_MOST_ROWS]
    return sorted(kept, key=lambda span: span.start)


def _figure(conclusion: str, rows: Sequence[_Span], x: Axis) -> str:
    parts = [svg.x_tick(x.at(tick), number(tick)) for tick in x.ticks()]
    parts += [
        f'<line class="grid" x1="{svg.percent(x.at(tick))}" x2="{svg.percent(x.at(tick))}" y1="0" y2="100%"/>'
        for tick in x.ticks()
    ]
    for i, row in enumerate(rows):
        top, start, end = _ROW * i, x.at(row.start), x.at(row.start + row.length)
        side, at, style = _beside(start, end)
        parts.append(
            f'<text class="phase-name" x="-8" y="{top + _ROW // 2}" dy=".32em" text-anchor="end">'
            f'{svg.esc(clean.name(row.name, _LONGEST_NAME))}</text><g class="{_COLOURS[row.kind]}">'
            f'<rect class="phase" x="{svg.percent(start)}" y="{top + 4}" height="{_ROW - 8}" rx="2"'
            f' width="{svg.percent(max(end - start, 0.3))}"/></g>'
            f'<text class="{style}" x="{svg.percent(at)}" y="{top + _ROW // 2}" dy=".34em" {side}>'
            f"{svg.esc(seconds(row.length))}</text>"
        )
    parts.append(svg.below("seconds"))
    return svg.canvas(_KEY, _TITLE, conclusion, _ROW * len(rows), "".join(parts), style="phases")


def _beside(start: float, end: float) -> tuple[str, float, str]:
    """Where the time of a bar stands: right of it, left of one that leaves no room there, or inside a long one."""
    if end <= _ROOM:
        return 'dx="6"', end, "value"
    if start >= 100 - _ROOM:
        return 'dx="-6" text-anchor="end"', start, "value"
    return 'dx="-6" text-anchor="end"', end, "value inside"


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def _share(kind: str, spans: Sequence[_Span], whole: float) -> str:
    length = sum(span.length for span in spans if span.kind == kind)
    return f"{kind} {seconds(length)}, {percent(float(f'{length / whole:.2g}'))}"


def _conclusion(run: Run, spans: Sequence[_Span], whole: float) -> str:
    longest = max(spans, key=lambda span: span.length)
    text = f"{plural(len(spans), 'phase')} took {seconds(whole)}"
    if finite(run.seconds) and run.seconds > whole:
        text += f" of the audit's {seconds(run.seconds)}; the rest went to starting processes and to judging"
    return f"{text}. The longest was “{longest.name}” with {seconds(longest.length)}."
