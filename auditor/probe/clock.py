"""Wall time of observed steps, and how much of each was ours."""

from __future__ import annotations

import time
from typing import Any

LONGEST_STEP = 30.0  # seconds; a pause in a debugger is no step


class StepClock:
    """Measures from the end of one step to the end of the next."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.own: list[float] = []
        self._since: float | None = None
        self._own_before = 0.0

    def step_ended(self, own_seconds: float) -> None:
        now = time.perf_counter()
        if self._since is not None and now - self._since < LONGEST_STEP:
            self.seconds.append(now - self._since)
            self.own.append(own_seconds - self._own_before)
        self._since, self._own_before = now, own_seconds


class Stopwatch:
    """Seconds of the user's own work between start and stop, summed up over a step."""

    def __init__(self, probe: Any) -> None:
        self._probe = probe
        self._since: float | None = None
        self._sum = 0.0

    def _now(self) -> float:
        since = self._probe.paused_since  # what we did from there on is not in own_seconds yet
        return float((time.perf_counter() if since is None else since) - self._probe.own_seconds)

    def start(self) -> None:
        self._since = self._now()

    def stop(self) -> None:
        if self._since is not None:
            self._sum += max(0.0, self._now() - self._since)
        self._since = None

    def taken(self) -> float:
        """Since it was last asked."""
        found, self._sum, self._since = self._sum, 0.0, None
        return found
