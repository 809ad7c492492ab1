"""How long each step waits for its training batches."""

from __future__ import annotations

from typing import Any

from auditor.evidence import DataWait
from auditor.probe.clock import Stopwatch
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.parts.program import length
from auditor.probe.planned import planned_epochs
from auditor.probe.steps import StepSeen

PLAN_STEP = 3  # by then the loop is where it will be


class DataWaitCollector(Collector):
    name = "data_wait"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._before: dict[int, float] = {}
        self._waits: list[float] = []
        self._seconds: list[float] = []
        self._measured = 0
        self._spans = {name: Stopwatch(probe) for name in ("forward", "backward", "update")}
        self._split: list[list[float]] = []
        self._epochs: int | None = None

    def forward(self, module: Any, args: Any, kwargs: Any) -> None:
        self._spans["forward"].start()

    def forwarded(self, module: Any, result: Any) -> None:
        self._spans["forward"].stop()

    def backward_begins(self, roots: tuple[Any, ...]) -> None:
        self._spans["backward"].start()

    def backward_ended(self) -> None:
        self._spans["backward"].stop()

    def update_begins(self, optimizer: Any, parameters: Any) -> None:
        self._spans["update"].start()

    def update_ended(self, optimizer: Any, parameters: Any) -> None:
        self._spans["update"].stop()

    def step_ended(self, step: StepSeen) -> None:
        spans = [span.taken() for span in self._spans.values()]
        waited = 0.0
        for seen in self.probe.program.loaders:
            if seen.training_credits:
                waited += seen.waited - self._before.get(id(seen), seen.waited)
                self._before[id(seen)] = seen.waited
        clock = self.probe.step_clock
        if len(clock.seconds) > self._measured:  # not in the first step, nor after a pause in a debugger
            self._measured = len(clock.seconds)
            self._waits.append(waited)
            self._seconds.append(max(0.0, clock.seconds[-1] - clock.own[-1]))
            self._split.append(spans)
        if self.step == PLAN_STEP:
            self._epochs = planned_epochs()

    def medians(self) -> tuple[float, float]:
        """(seconds waited, seconds) of a step."""
        return _median(self._waits), _median(self._seconds)

    def part(self) -> DataWait:
        trained = [seen for seen in self.probe.program.loaders if seen.training_credits]
        if not trained:
            raise Unavailable("the loop is not fed by a DataLoader")
        if not self._waits:
            raise Unavailable("no step was timed", "inconclusive")
        seen = trained[0]
        return DataWait(
            loader=seen.name,
            workers=int(getattr(seen.loader, "num_workers", 0) or 0),
            waits=tuple(round(each, 7) for each in self._waits),
            seconds=tuple(round(each, 7) for each in self._seconds),
            **{name: tuple(round(each[i], 7) for each in self._split) for i, name in enumerate(self._spans)},
            batches=length(seen.loader),
            epochs=self._epochs,
            location=seen.location,
        )


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0
