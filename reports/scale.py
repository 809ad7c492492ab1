"""Scales: values to percentages of a plot, with ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

TINY = 1e-290  # below this, a tenth of it has no exact logarithm
HUGE = 1e300  # beyond this, differences overflow; such values count as not finite


def finite(value: float | None) -> bool:
    return value is not None and -HUGE < value < HUGE  # neither NaN nor an infinity is


@dataclass(frozen=True)
class Axis:
    """Values to percentages; `low` maps to 0 and `high` to 100."""

    low: float
    high: float
    log: bool = False

    def at(self, value: float) -> float:
        """Clamped to just outside the plot, so that no wild value makes a wild picture."""
        if self.log:
            if value <= 0:
                return -2.0
            share = (math.log10(value) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        else:
            share = (value - self.low) / (self.high - self.low)
        return 100 * min(max(share, -0.02), 1.02)

    def ticks(self, most: int = 5) -> list[float]:
        wide = self.log and self.high / self.low > 4  # within less, a logarithm is nearly straight
        found = self._decades(most) if wide else self._steps(most)
        return [tick for tick in found if self._holds(tick)]

    def _holds(self, value: float) -> bool:
        return -1e-6 <= self.at(value) <= 100 + 1e-6

    def _steps(self, most: int) -> list[float]:
        span = self.high - self.low
        if not span / most > 0:  # less than can be divided
            return [self.low]
        size = 10.0 ** math.floor(math.log10(span / most))
        step = next((size * k for k in (1, 2, 2.5, 5, 10) if span / (size * k) <= most), size * 10)
        first = math.ceil(self.low / step - 1e-9)
        return [round((first + i) * step, 12 - math.floor(math.log10(step))) + 0.0 for i in range(most + 2)]

    def _decades(self, most: int) -> list[float]:
        low, high = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        if high - low <= 2:
            return [m * 10.0**e for e in range(low, high + 1) for m in ((1, 2, 5) if high - low <= 1 else (1, 3))]
        stride = math.ceil((high - low) / most)
        return [10.0**e for e in range(low, high + 1, stride)]


def steps_axis(count: int) -> Axis:
    """The axis of `count` steps, without air: a line starts at the frame."""
    return Axis(0, max(count - 1, 1))


def axis(values: Iterable[float | None], *, log: bool | None = None, zero: bool = False) -> Axis | None:
    """An axis over the finite values with some air, logarithmic where that alone shows them; None without values."""
    found = [value for value in values if value is not None and finite(value)]
    if not found:
        return None
    low, high = min(found), max(found)
    positive = [value for value in found if value > 0]
    if log is None:
        log = low > 0 and high / low > 200
    if log:
        if not positive:
            return None
        low = max(min(positive) / 1.3, TINY)
        return Axis(low, max(max(positive) * 1.3, 2 * low), log=True)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    air = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    return Axis(low - (0 if zero and low == 0 else air), high + air)
