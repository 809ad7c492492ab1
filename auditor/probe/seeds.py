"""Which global random number generators were seeded before they were drawn from."""

from __future__ import annotations

from auditor.probe.randomness import RandomState


class Seeds:
    """Compares states: reading one draws nothing."""

    def __init__(self) -> None:
        self._start: RandomState | None = None
        self._before: set[str] = set()  # seeded with a fixed number while nothing had been drawn yet
        self._asked: set[str] = set()  # seeded with a fixed number at all

    def start(self) -> None:
        """The taps are in place, the script has not begun."""
        self._start = RandomState.capture()

    def seeded(self, generator: str, fixed: bool) -> None:
        if not fixed or generator in self._asked:
            return
        self._asked.add(generator)
        if generator not in self.drawn():
            self._before.add(generator)

    def drawn(self) -> tuple[str, ...]:
        """Generators whose state is not what it was at the start: drawn from, or seeded."""
        return self._start.differing(RandomState.capture()) if self._start is not None else ()

    def unseeded(self) -> tuple[str, ...]:
        return tuple(generator for generator in self.drawn() if generator not in self._before)
