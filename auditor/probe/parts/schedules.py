"""When each learning-rate scheduler is stepped, and the lengths that it and the loop declare."""

from __future__ import annotations

import itertools
import linecache
import re
import statistics
from dataclasses import dataclass, field
from typing import Any

import torch

from auditor.evidence import Location, Schedule, Schedules
from auditor.probe.collect import Collector, LoopCall, Unavailable
from auditor.probe.epochs import passes_over_the_loader
from auditor.probe.locate import user_location
from auditor.probe.nested import Around, loops_around
from auditor.probe.questions import rate_of
from auditor.probe.rates_ahead import rates_ahead

PERIODS = ("total_steps", "T_max", "T_0", "step_size", "total_iters", "total_size")
MOST_RATES = 200
BY_HAND = "rate set by hand"
_STEP_CALL = re.compile(r"([\w.\[\]]+)\s*\.step\s*\(")
_OPTIMIZERS = re.compile(r"optim|opt\b|opt_|scaler|^o$|engine", re.IGNORECASE)


@dataclass
class _Calls:
    scheduler: Any
    at: list[int] = field(default_factory=list)  # steps complete at each call
    rates: list[float] = field(default_factory=list)
    before_update: int = 0
    location: Location | None = None

    def replaces(self, other: _Calls) -> bool:
        """Stepped by the same line, and only after the last call of the other."""
        return self.location == other.location and self.at[0] >= max(other.at)


@dataclass(frozen=True)
class _Plan:
    """How long the loop says that it will run."""

    backwards_per_step: int
    batches: int | None  # per epoch
    epochs: int | None
    steps: int | None  # of a loop without epochs
    starts: list[int]  # steps at which epochs begin, the first one left out
    loader: bool = False

    @property
    def all_steps(self) -> int | None:
        if self.epochs and self.batches:
            return self.epochs * self.batches // self.backwards_per_step
        return self.steps


class SchedulesCollector(Collector):
    name = "schedules"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._calls: dict[int, _Calls] = {}
        self._planned: dict[int, int | None] = {}
        self._backward_loop: tuple[str, int] | None = None
        self._loops: Around | None = None  # around the step
        self._resumed: dict[int, bool] = {}  # optimizers, with whether they held a state before their first step

    def batch_fetched(self, seen: Any, batch: Any) -> None:
        if id(seen) not in self._planned:
            self._planned[id(seen)] = passes_over_the_loader()

    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None:
        if self._loops is None and self._backward_loop is None and not self.probe.feed.has_loader:
            self._backward_loop = next(iter(loops_around().places), None)

    def update_begins(self, optimizer: torch.optim.Optimizer | None, parameters: list[torch.Tensor]) -> None:
        if self._loops is None and not self.probe.feed.has_loader:
            self._loops = loops_around()
        if optimizer is not None and id(optimizer) not in self._resumed:
            self._resumed[id(optimizer)] = len(optimizer.state) > 0

    def loop_call(self, what: LoopCall, subject: Any) -> None:
        if what != "scheduler_step":
            return
        calls = self._calls.get(id(subject))
        if calls is None:
            calls = self._calls[id(subject)] = _Calls(subject, location=user_location())
        optimizer = getattr(subject, "optimizer", None)
        if optimizer is not None:
            if not self.probe.loop.updates:  # of any optimizer: libraries wrap the one that the schedule changes
                calls.before_update += 1
            if len(calls.rates) < MOST_RATES and optimizer.param_groups:
                calls.rates.append(rate_of(optimizer, 0))
        calls.at.append(self.step)

    def part(self) -> Schedules:
        probe = self.probe
        known = {id(scheduler): (scheduler, location) for scheduler, location in probe.program.schedulers}
        for calls in self._calls.values():  # those that are made of others do not call the constructor of their base
            known.setdefault(id(calls.scheduler), (calls.scheduler, None))
        inner = {id(part) for scheduler, _ in known.values() for part in getattr(scheduler, "_schedulers", ())}
        outer = [entry for key, entry in known.items() if key not in inner]
        if not outer and self._by_hand() is None:
            raise Unavailable("no learning-rate scheduler of torch is used")
        if not probe.program.stepped():
            raise Unavailable("no step of an optimizer was seen", "inconclusive")
        plan = self._plan()
        starts, steps = plan.starts, plan.all_steps
        described = [self._schedule(scheduler, location, starts, plan.epochs, steps) for scheduler, location in outer]
        by_hand = self._by_hand() if not outer else None
        trajectory = probe.collectors.find("trajectory")
        return Schedules(
            steps=probe.observed,
            schedules=(*described, *(() if by_hand is None else (by_hand,))),
            epochs_seen=len(starts),
            batches_per_epoch=plan.batches,
            backwards_per_step=plan.backwards_per_step,
            planned_epochs=plan.epochs,
            planned_steps=plan.steps,
            cut_short=probe.feed.cut_at is not None,
            skipped_steps=bool(trajectory is not None and trajectory.skipped()),
            loop="loader" if plan.loader else "other",
        )

    def planned_steps(self) -> int | None:
        """Optimizer steps of the whole run, None where the source does not say so: a loop that has taken more of them
        than were read from it has another one inside, such as a comprehension."""
        steps = self._plan().all_steps
        return steps if steps is not None and steps >= self.probe.observed else None

    def _plan(self) -> _Plan:
        training = max(
            (seen for seen in self.probe.program.loaders if seen.training_credits),
            key=lambda seen: seen.training_credits,
            default=None,
        )
        starts = sorted({start for start in self.probe.feed.epoch_starts if start > 0})
        backwards = self.probe.collectors.find("program")
        k = max(1, round(backwards.backwards_per_step())) if backwards is not None else 1
        if training is not None:
            return _Plan(k, _length(training.loader), self._planned.get(id(training)), None, starts, loader=True)
        if self._loops is None:
            return _Plan(k, None, None, None, starts)
        batches, epochs, steps = self._nested(self._loops, k)
        if batches is not None:
            starts = list(range(max(1, batches // k), self.probe.observed, max(1, batches // k)))
        return _Plan(k, batches, epochs, steps, starts)

    def _schedule(
        self, scheduler: Any, location: Location | None, starts: list[int], epochs: int | None, steps: int | None
    ) -> Schedule:
        """`epochs`, `steps`: how many the whole run plans, None where that is not known."""
        calls = self._calls.get(id(scheduler)) or _Calls(scheduler)
        optimizer = getattr(scheduler, "optimizer", None)
        name = next((name for name in PERIODS if isinstance(getattr(scheduler, name, None), int)), "")
        gamma = getattr(scheduler, "gamma", None)
        milestones = getattr(scheduler, "milestones", None) or ()
        try:
            marks = tuple(sorted(int(mark) for mark in milestones))
        except (TypeError, ValueError):
            marks = ()
        per_step, per_epoch = self._per_step(calls, starts), self._per_epoch(calls, starts)
        planned = steps if (per_step or 0.0) >= 0.9 else epochs if per_epoch is not None and per_epoch >= 0.5 else None
        taken = int(getattr(scheduler, "last_epoch", 0))
        ahead = (planned or 0) - taken
        batches = max(0, (steps or 0) - taken) if planned is not None and planned == epochs else 0
        left_at, left_before = self._left(scheduler, location)
        used = optimizer is None or any(record.optimizer is optimizer for record in self.probe.program.stepped())
        return Schedule(
            kind=type(scheduler).__name__,
            location=location,
            step_location=calls.location,
            calls=len(calls.at),
            per_step=per_step,
            per_epoch=per_epoch,
            before_update=calls.before_update,
            per_period=getattr(scheduler, name) if name else None,
            period_name=name,
            gamma=float(gamma) if isinstance(gamma, int | float) else None,
            milestones=marks,
            rates=tuple(calls.rates),
            calls_ahead=max(0, ahead),
            last_call=getattr(scheduler, "last_epoch", None),
            ahead=rates_ahead(scheduler, ahead),
            batches_ahead=batches,
            at_every_batch=rates_ahead(scheduler, batches),
            left_at=left_at,
            left_before=left_before,
            mentioned=not used or self._mentioned(location),
        )

    def _left(self, scheduler: Any, location: Location | None) -> tuple[float | None, float | None]:
        """Where the scheduler that the same line built before was left, and what it would have risen to, if this one
        begins at its start while the weights go on."""
        built = [each for each, place in self.probe.program.schedulers if place == location and location is not None]
        place = next((place for place, each in enumerate(built) if each is scheduler), 0)
        before, calls = self._calls.get(id(built[place - 1])) if place else None, self._calls.get(id(scheduler))
        if before is None or calls is None or not before.rates or not calls.rates or len(before.at) > len(before.rates):
            return None, None
        optimizer = getattr(scheduler, "optimizer", None)
        same = optimizer is getattr(before.scheduler, "optimizer", None)
        if before.at[-1] > calls.at[0] or not (same or self._resumed.get(id(optimizer))):
            return None, None
        if calls.rates[0] > 1.01 * before.rates[0] or before.rates[-1] < max(before.rates):
            return None, None
        end = getattr(before.scheduler, "total_steps", None)
        reach = end - before.scheduler.last_epoch if isinstance(end, int) else 1000 + 20 * len(before.at)
        risen = rates_ahead(before.scheduler, reach)
        return (before.rates[-1], max(risen)) if risen else (None, None)

    def _nested(self, loops: Around, k: int) -> tuple[int | None, int | None, int | None]:
        """(batches per epoch, epochs, steps) of a loop that cuts its own batches; steps for one without epochs only."""
        if loops.inner is None or self._backward_loop is None:
            return None, None, None
        accumulates = k > 1 and self._backward_loop == loops.places[0]  # else each step has a loop of its own inside
        if len(loops.lengths) == 1:
            return None, None, loops.inner // k if accumulates else loops.inner
        return loops.inner if accumulates or k == 1 else loops.inner * k, loops.outer, None

    def _by_hand(self) -> Schedule | None:
        """The rate of a program without scheduler that changes it itself, at each of its updates."""
        for record in self.probe.program.stepped()[:1]:
            options = self.probe.recorded_groups.get((id(record.optimizer), 0), [])
            rates = [float(each["lr"]) for each in options if isinstance(each.get("lr"), int | float)]
            changes = sum(a != b for a, b in itertools.pairwise(rates))
            if changes:
                return Schedule(
                    kind=BY_HAND,
                    location=record.location,
                    step_location=record.step_location,
                    calls=changes,
                    per_step=1.0 if 2 * changes >= len(rates) - 1 else 0.0,
                    rates=tuple(rates[:MOST_RATES]),
                )
        return None

    def _per_step(self, calls: _Calls, starts: list[int]) -> float | None:
        """Median over the steps from its first call on, until another one takes its place; the first step and those at
        the ends of epochs are left out."""
        first = min(calls.at, default=1)
        later = [other.at[0] for other in self._calls.values() if other.at[0] > first and other.replaces(calls)]
        inside = [step for step in range(max(1, first), min(later, default=self.probe.observed)) if step not in starts]
        return statistics.median(calls.at.count(step) for step in inside) if inside else None

    def _per_epoch(self, calls: _Calls, starts: list[int]) -> float | None:
        """Mean over the passes that ended."""
        if not starts:
            return None
        return sum(1 for at in calls.at if at <= starts[-1]) / len(starts)

    def _mentioned(self, location: Location | None) -> bool:
        """Whether the sources that build the scheduler or step the optimizer call step() of anything else."""
        places = [record.step_location for record in self.probe.program.stepped()]
        if location is None or any(place is None for place in places):
            return True
        files = {location.file, *(place.file for place in places if place is not None)}
        found = [match for file in files for match in _STEP_CALL.findall("".join(linecache.getlines(file)))]
        return not found or any(not _OPTIMIZERS.search(match.rpartition(".")[2]) for match in found)


def _length(loader: Any) -> int | None:
    try:
        return len(loader)
    except Exception:
        return None
