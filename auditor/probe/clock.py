"""Wall time of observed steps, and how much of each was ours."""

from __future__ import annotations

import time

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
