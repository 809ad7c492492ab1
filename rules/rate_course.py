"""How much of the learning rate a schedule leaves, told before the loop has come there."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
