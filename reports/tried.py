"""What was tried against a finding, in words: the same sentences in every format."""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Sequence
from functools import lru_cache

from auditor.evidence import Run
from auditor.result import Fix, Trial

from . import clean
from .scale import finite
from .words import number, percent, plural, signed

AS_IT_IS, WITH_FIX = "as it is", "with the fix"
_LONGEST_CHANGE = 160  # "the learning rate times 0.25 and clipping at 1"
_LONGEST_TARGET = 100


def change(trial: Trial) -> str:
    """'the learning rate times 0.25'; the fix itself where the trial does not say."""
    return clean.name(trial.what, _LONGEST_CHANGE) or "this fix"


def metric(trial: Trial) -> str:
    return clean.name(trial.metric, 30) or "loss"


def is_share(trial: Trial) -> bool:
    """Whether the metric lies between 0 and 1, and is shown in percent."""
    return trial.metric.endswith("error rate") or not is_course(trial)


def is_course(trial: Trial) -> bool:
    """Whether its values are those of steps, one after the other; else they are of pairs of batches, in no order."""
    return trial.metric != "error of the held-out loss"


def level(trial: Trial, value: float) -> str:
    """A value of the trial's metric."""
    return percent(value) if is_share(trial) else number(value)


def ends(trial: Trial) -> str:
    """'2.3 → 0.41': without and with the fix."""
    return f"{level(trial, trial.before)} → {level(trial, trial.after)}"


def moved(trial: Trial) -> str:
    """'loss after 60 steps 2.3 → 0.41'."""
    when = f"after {plural(trial.steps, 'step')}" if is_course(trial) else f"over {trial.steps} pairs of batches"
    return f"{metric(trial)} {when} {ends(trial)}"


def interval(trial: Trial) -> str:
    """'95 % interval of the difference −2 to −1.7', or '' without one."""
    low, high = trial.low, trial.high
    if low is None or high is None or not (finite(low) and finite(high)):
        return ""
    if is_share(trial):
        return f"95 % interval of the difference {signed(100 * low)} to {signed(100 * high)} points"
    return f"95 % interval of the difference {signed(low)} to {signed(high)}"


def looks(trial: Trial) -> str:
    """'2 looks, each on other batches', or '' for a single look."""
    return f"{trial.looks} looks, each on other batches" if trial.looks > 1 else ""


def backing(trial: Trial) -> str:
    """How much the numbers can bear: the interval and the looks, or ''."""
    return "; ".join(part for part in (interval(trial), looks(trial)) if part)


def ending(trial: Trial) -> str:
    """'as it is, the loop diverged at step 38', or ''."""
    broken = [(name, step) for name, values in curves(trial) if (step := diverged(values)) is not None]
    return " and ".join(f"{name}, the loop diverged at step {step}" for name, step in broken)


def course(trial: Trial) -> str:
    """'loss after 60 steps 2.3 → 0.41 (95 % interval ...); as it is, the loop diverged at step 38'."""
    text = f"{moved(trial)} ({backing(trial)})" if backing(trial) else moved(trial)
    return f"{text}; {ending(trial)}" if ending(trial) else text


def sentence(trial: Trial) -> str:
    """'the learning rate times 0.25: loss after 60 steps 2.3 → 0.41'; that there was no help is said first."""
    return f"{change(trial)}: {'' if trial.helped else 'no help; '}{course(trial)}"


def at_once(trial: Trial) -> str:
    """Of the fixes that helped against several causes: 'All fixes at once: loss after 120 steps 2.3 → 0.04'."""
    help_ = "" if trial.helped else "no help; fix one and audit again; "
    return f"All fixes at once: {help_}{course(trial)}"


def result(trial: Trial, best: Trial | None) -> str:
    """'helped less (2.3 → 1.1)' or 'no help (2.3 → 2.28)' of what was tried besides the best."""
    less = " less" if best is not None and best.helped else ""
    return (f"helped{less}" if trial.helped else "no help") + f" ({ends(trial)})"


def short(trial: Trial, best: Trial | None) -> str:
    """'clipping at 1: no help (2.3 → 2.28)'."""
    return f"{change(trial)}: {result(trial, best)}"


def diverged(values: Sequence[float]) -> int | None:
    """The step from which on the metric was no number, or None."""
    return _diverged(tuple(values))


@lru_cache(maxsize=128)  # every format asks several times, and curves are long
def _diverged(values: tuple[float, ...]) -> int | None:
    return next((step for step, value in enumerate(values) if not finite(value)), None)


def curves(trial: Trial) -> list[tuple[str, tuple[float, ...]]]:
    """(label, values) of the two curves, or nothing when there is too little to draw."""
    if not is_course(trial):
        return []
    pair = [(AS_IT_IS, trial.control), (WITH_FIX, trial.treated)]
    drawable = all(len(values) > 1 for _, values in pair) and any(finite(v) for _, values in pair for v in values)
    return pair if drawable else []


def top(trial: Trial) -> float:
    """The highest loss worth drawing: a curve that runs away must not flatten the other."""
    return math.inf if is_share(trial) else _top(tuple(values for _, values in curves(trial)))


@lru_cache(maxsize=64)
def _top(pair: tuple[tuple[float, ...], ...]) -> float:
    kept = [found for values in pair if (found := list(filter(finite, values)))]
    middle = min(map(statistics.median, kept), default=0.0)
    highest = max([middle, *(values[0] for values in kept)])
    return 3 * highest if highest > 0 else math.inf


def untried(fix: Fix) -> str:
    """Why nothing was tried, '' when something was or nothing is known."""
    return "" if fix.trial else clean.line(fix.untried, 300)


def apply_command(run: Run, fix: Fix) -> str:
    """The command that writes the fix into the script; '' unless there is a diff that was seen to help.

    A name that cannot be shown as it is gives no command: what one reads must be what one runs.
    """
    if not fix.diff or fix.trial is None or not fix.trial.helped or not run.target:
        return ""
    if run.target != clean.name(run.target, _LONGEST_TARGET) or run.target.startswith("-"):
        return ""
    return f"audit fix {'-m ' if run.module else ''}{shlex.quote(run.target)}"
