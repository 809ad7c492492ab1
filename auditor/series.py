"""What a series of losses or norms did: where it started and ended, whether it left the finite numbers, its growth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MOST_POINTS = 200  # Theil-Sen looks at every pair of points


def finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def tail(values: Sequence[float]) -> Sequence[float]:
    """The last third, but 8 values where there are as many."""
    return values[-max(len(values) // 3, min(len(values), 8), 1) :]


def middle(values: Sequence[float]) -> float:
    """Median of the finite values, NaN when there are none."""
    kept = finite(values)
    if not kept:
        return math.nan
    kept.sort()
    half = len(kept) // 2
    # Halved before they are added: two values near the largest float would overflow.
    return kept[half] if len(kept) % 2 else kept[half - 1] / 2 + kept[half] / 2


def diverged(values: Sequence[float]) -> bool:
    """The series ended outside the finite numbers; a passing overflow in the midst of it does not count."""
    if not values:
        return False
    last = tail(values)
    return not math.isfinite(values[-1]) or 2 * len(finite(last)) < len(last)


def signed(*series: Sequence[float]) -> bool:
    """Some value is negative, so zero is no floor and a ratio of two values means nothing."""
    return any(value < 0 for values in series for value in finite(values))


def spread(values: Sequence[float]) -> float:
    """Robust standard deviation of the finite values: 1.48 times the median absolute deviation."""
    centre = middle(values)
    return 1.4826 * middle([abs(value - centre) for value in finite(values)]) if finite(values) else 0.0


def width(*series: Sequence[float]) -> float:
    """Largest less smallest finite value."""
    every = [value for values in series for value in finite(values)]
    return max(every) - min(every) if every else 0.0


@dataclass(frozen=True)
class Course:
    """A loss from its start to its end."""

    steps: int
    start: float
    end: float
    diverged: bool
    fall: float  # share of the start that is gone at the end; of the width of the series where losses are signed
    spread: float

    @property
    def rise(self) -> float:
        """End over start: 1 when nothing changed, infinite when the loss diverged."""
        if self.diverged:
            return math.inf
        return self.end / self.start if self.start > 0 and self.end >= 0 else 1 - self.fall


def course(losses: Sequence[float]) -> Course:
    """Start is the median of the first tenth (of the finite values), end that of the last third."""
    kept = finite(losses)
    first = middle(kept[: max(1, len(kept) // 10)])
    last = middle(tail(losses))
    lost = diverged(losses)
    scale = width(kept) if signed(kept) else abs(first)
    fall = (first - last) / scale if scale else 0.0
    return Course(
        steps=len(losses),
        start=first,
        end=math.inf if lost else last,
        diverged=lost,
        fall=-math.inf if lost else fall if math.isfinite(fall) else 0.0,
        spread=spread(tail(losses)),
    )


@dataclass(frozen=True)
class Growth:
    """By how much a positive series grew from its first to its last value, with the bounds of a 99 % interval."""

    factor: float
    low: float
    high: float


def growth(values: Sequence[float]) -> Growth | None:
    """Theil-Sen slope of the logarithm; None when fewer than eight values are positive and finite."""
    points = [(step, math.log(value)) for step, value in enumerate(values) if math.isfinite(value) and value > 0]
    if len(points) < 8:
        return None
    from scipy.stats import theilslopes  # type: ignore[import-untyped]

    stride = -(-len(points) // MOST_POINTS)
    kept = points[::stride]
    slope, _, low, high = theilslopes([log for _, log in kept], [step for step, _ in kept], alpha=0.99)
    span = points[-1][0] - points[0][0]
    factor, least, most = (math.exp(max(-700.0, min(700.0, span * float(s)))) for s in (slope, low, high))
    return Growth(factor, least, most)
