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


def repair(run: Run, fix: Fix, anchor: str) -> Repair:
    """The fix of the finding with this anchor."""
    rows, more = clean.head(fix.diff or "", _MOST_DIFF)
    return Repair(
        diff=tuple(painted.diff(rows)),
        more=more,
        whole=rows == (fix.diff or "").splitlines(),
        command=tried.apply_command(run, fix),
        best=_best(fix.trial),
        chart=trial_chart.draw(fix.trial, f"{anchor}-tried") if fix.trial else None,
        others=tuple(
            Attempt(other.helped, tried.change(other), tried.result(other, fix.trial))
            for other in fix.others[:_MOST_OTHERS]
        ),
        unlisted=len(fix.others[_MOST_OTHERS:]),
        untried=tried.untried(fix),
    )


def _best(trial: Trial | None) -> Attempt | None:
    return Attempt(trial.helped, tried.change(trial), tried.course(trial)) if trial else None
