"""A finding's fix as the HTML page shows it: the diff, what came of trying it, and how to apply it."""

from __future__ import annotations

from dataclasses import dataclass

from auditor.evidence import Run
from auditor.result import Fix, Trial

from . import clean, painted, trial_chart, tried
from .painted import Line
from .svg import Chart

_MOST_DIFF = 80
_MOST_OTHERS = 12


@dataclass(frozen=True)
class Attempt:
    """One thing that was tried."""

    helped: bool
    change: str
    result: str
    backing: str = ""  # what the numbers can bear


@dataclass(frozen=True)
class Repair:
    """What stands in the section on the fix. `whole`: the diff is shown as it is, so that it can be copied."""

    diff: tuple[Line, ...]
    more: int
    whole: bool
    command: str
    best: Attempt | None
    chart: Chart | None
    others: tuple[Attempt, ...]
    unlisted: int
    untried: str


def repair(run: Run, fix: Fix, chart_key: str) -> Repair:
    """The fix of one finding; the chart of its trial gets this anchor."""
    rows, more = clean.head(fix.diff or "", _MOST_DIFF)
    chart = trial_chart.draw(fix.trial, chart_key) if fix.trial else None
    return Repair(
        diff=tuple(painted.diff(rows)),
        more=more,
        whole=rows == (fix.diff or "").splitlines(),
        command=tried.apply_command(run, fix),
        best=_best(fix.trial, chart) if fix.trial else None,
        chart=chart,
        others=tuple(
            Attempt(other.helped, tried.change(other), tried.result(other, fix.trial))
            for other in fix.others[:_MOST_OTHERS]
        ),
        unlisted=len(fix.others[_MOST_OTHERS:]),
        untried=tried.untried(fix),
    )


def together(trial: Trial) -> Repair:
    """The trial of all fixes at once, shown as that of a single one is."""
    chart = trial_chart.draw(trial, "together-tried")
    return Repair((), 0, False, "", _best(trial, chart), chart, (), 0, "")


def _best(trial: Trial, chart: Chart | None) -> Attempt:
    """The numbers; how the curves ended only where no chart says it."""
    backing = [tried.backing(trial), "" if chart else tried.ending(trial)]
    text = "; ".join(part for part in backing if part)
    return Attempt(trial.helped, tried.change(trial), tried.moved(trial), text)
