"""How often a schedule is stepped, beside the loop around it."""

from __future__ import annotations

from dataclasses import dataclass

from auditor.evidence import Schedule, Schedules

from .words import count


@dataclass(frozen=True)
class Pace:
    """One schedule beside the loop."""

    schedule: Schedule
    seen: Schedules
    per_step: float  # calls per optimizer step
    per_epoch: float | None
    steps_per_epoch: int | None  # optimizer steps
    epochs: int | None

    @staticmethod
    def of(schedule: Schedule, seen: Schedules) -> Pace:
        batches = seen.batches_per_epoch if seen.batches_per_epoch and seen.batches_per_epoch > 0 else None
        k = max(1, seen.backwards_per_step)
        return Pace(
            schedule=schedule,
            seen=seen,
            per_step=schedule.per_step if schedule.per_step is not None else 0.0,
            per_epoch=schedule.per_epoch,
            steps_per_epoch=max(1, batches // k) if batches else None,
            epochs=seen.planned_epochs if seen.planned_epochs and seen.planned_epochs > 0 else None,
        )

    @property
    def batchwise(self) -> bool:
        return self.per_step >= 0.9

    @property
    def epochwise(self) -> bool:
        return self.per_step < 0.1 and self.per_epoch is not None and 0.5 <= self.per_epoch <= 1.5

    @property
    def length(self) -> int | None:
        """Declared length, in calls."""
        declared = self.schedule.per_period
        return declared if declared is not None and declared > 0 else None

    def text(self) -> str:
        pace = "at every optimizer step" if self.batchwise else "once per epoch" if self.epochwise else "never"
        if self.schedule.calls and not self.batchwise and not self.epochwise:
            pace = count(self.schedule.calls, "time")
        return f"{self.schedule.kind} was stepped {pace}, in {count(self.seen.steps, 'step')}"
