"""How much of the learning rate a schedule leaves, told before the loop has come there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from auditor.evidence import Schedule

# Schedules that go on falling; those of others may end at a least rate.
ENDLESS = frozenset({"ExponentialLR", "StepLR", "MultiplicativeLR"})


def left_at(schedule: Schedule, rates: Sequence[float], steps: int) -> float | None:
    """Share of the peak that is left after so many steps, and to the end: as a copy of the scheduler went, else by the
    course so far. None where neither is known."""
    if schedule.ahead:
        past = max(0, steps - (schedule.last_call or 0))
        place = math.floor(past / schedule.calls_ahead * len(schedule.ahead))
        later = schedule.ahead[place:]
        return max(map(abs, later)) / max(*rates, *schedule.ahead) if later else None
    fall = _fall_per_call(rates) if schedule.kind in ENDLESS else None  # others may stop at a least rate
    return math.exp(max(-700.0, fall * steps)) if fall is not None else None


def left_after(schedule: Schedule, calls: float) -> float | None:
    """Share of the rate that a decaying schedule leaves after so many calls; None for other kinds."""
    gamma = schedule.gamma
    if gamma is None or not 0 < gamma < 1:
        return None
    if schedule.kind == "StepLR" and schedule.per_period and schedule.per_period > 0:
        times = math.floor(calls / schedule.per_period)
    elif schedule.kind == "MultiStepLR" and schedule.milestones:
        times = sum(1 for mark in schedule.milestones if mark <= calls)
    elif schedule.kind == "ExponentialLR":
        times = math.floor(min(calls, 1e6))
    else:
        return None
    return math.exp(max(-700.0, times * math.log(gamma)))


@dataclass(frozen=True)
class Ramp:
    """A rise that is not over when the run is."""

    share: float  # of its peak, at the end of the run
    peak: float
    calls: int  # from the first to the peak


def unfinished_ramp(schedule: Schedule) -> Ramp | None:
    """Of a schedule that is stepped per epoch, where a copy that is stepped per batch comes past its peak. None for
    rates that also fall, and for those that rise to the end at any pace: a sweep of rates is meant so."""
    planned, longer = (*schedule.rates, *schedule.ahead), schedule.at_every_batch
    if len(planned) < 2 or not longer or not all(map(math.isfinite, (*planned, *longer))):
        return None
    if planned[-1] <= planned[0] or any(b < a for a, b in pairwise(planned)):
        return None
    peak = max(longer)
    place = longer.index(peak)
    if not peak > max(0.0, planned[-1]) or place == len(longer) - 1:
        return None
    calls = (schedule.last_call or 0) + math.ceil(schedule.batches_ahead * (place + 1) / len(longer))
    return Ramp(planned[-1] / peak, peak, calls)


def _fall_per_call(rates: Sequence[float]) -> float | None:
    """Logarithm of the factor per call: of an exponential decay, exactly; of a staircase with steps of one height (a
    rate that is lowered on plateaus), as seen so far. None for other courses, whose end cannot be told."""
    if min(rates) <= 0:
        return None
    factors = [b / a for a, b in pairwise(rates)]
    changes = [factor for factor in factors if factor != 1]
    if not changes or max(changes) >= 1 or max(changes) - min(changes) > 1e-6 * max(changes):
        return None
    if len(changes) == len(factors):
        return math.log(changes[0])
    return math.log(changes[0]) * len(changes) / len(factors) if len(changes) > 2 else None
