"""OPT108: the learning-rate schedule is stepped at another pace than it is built for."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydantic import Field

from auditor.declare import (
    Confidence,
    Finding,
    Inconclusive,
    Judgement,
    Measured,
    Options,
    Severity,
    rule,
)
from auditor.evidence import Remedy, RemedyKind, Schedules

from ..rate_course import left_after, left_at, unfinished_ramp
from ..schedule_pace import Pace
from ..symptoms import NOT_LEARNING
from ..words import count, number, percent


class Limits(Options):
    max_mismatch: float = Field(
        2.0, gt=1, description="Largest factor between the declared length and the one the loop comes to."
    )
    max_decay: float = Field(
        1e-3, gt=0, lt=1, description="A rate that falls below this share within one epoch has fallen by mistake."
    )
    max_early: int = Field(
        3,
        ge=1,
        description="Epochs, at most a quarter of those planned, within which it must not fall below it either.",
    )
    max_warm: float = Field(
        0.25, gt=0, lt=1, description="Share of its peak that a rising rate has to come to before the run ends."
    )
    min_steps: int = Field(10, ge=3, description="Optimizer steps that have to be seen.")


@rule(
    "OPT108",
    "scheduler-cadence",
    severity=Severity.WARNING,
    explains=(*NOT_LEARNING, "lr-too-high", "update-ratio"),
    fix="""Step the schedule at the pace of its length: `scheduler.step()` after each epoch where that is in epochs,
    after each `optimizer.step()` where it is in steps, with `T_max=epochs * len(loader)`.""",
    references=(
        "https://docs.pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate",
        "https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.OneCycleLR.html",
        "https://github.com/huggingface/accelerate/issues/963",
    ),
    remedies=(RemedyKind.HOLD_RATE, RemedyKind.STEP_SCHEDULE),
)
def scheduler_cadence(schedules: Schedules, limits: Limits) -> Judgement:
    """A learning-rate schedule is stepped per batch though it counts epochs, or the other way around, or never.

    ## What it does

    Counts the calls of `scheduler.step()` per optimizer step and per epoch, and compares what they add up to with the
    length that the schedule declares (`T_max`, `total_steps`, `step_size`, milestones, `total_iters`).

    ## Why is it bad?

    A schedule in epochs that is stepped per batch is over within the first epoch: the rate is tiny, or swings up and
    down, for the rest of the run. A one-cycle schedule that is stepped per epoch never leaves its warm-up. Both look
    like a network that stopped learning for other reasons.

    ## How it is measured

    By counting. The number of batches comes from the training loader, that of epochs from the `range()` of the loop
    around it, where it can be read; without a loader both come from the loops around the step. It fails when

    - the schedule is stepped once per batch, and its length equals the number of epochs, or its decay would leave less
      than `max-decay` of the rate after a single epoch;
    - it is stepped once per epoch, and its length is that of all batches, or a multiple of those of one epoch;
    - it is stepped at every micro-batch of an accumulating loop, and its length is in optimizer steps;
    - an epoch has ended without a call, and nothing in the source steps it;
    - the rate, lowered per step by any schedule or by hand, is below `max-decay` of its peak for the whole last
      quarter of the observed steps, or comes there within an epoch, within `max-early` epochs of four times as many
      (a quarter of a loop without epochs), and stays there: as a copy of the scheduler goes, or by the exponential or
      staircase course that it has taken, with at least three stairs of one height;
    - a copy of the scheduler goes below zero in the first half of what the loop plans;
    - it is stepped once per epoch and rises to the last one planned, where it has come to `max-warm` of its peak at
      most, while a copy that is stepped after every batch comes past its peak within the run: a warm-up in batches;
    - a scheduler was built anew by the same line, while the optimizer kept its state or got it back from a checkpoint,
      and the one before was left in its rise, below `max-warm` of its peak: a resumed run that begins its warm-up anew.

    Two lesser findings are notes: a first call before the first optimizer step, which skips the first rate, and a
    cosine or one-cycle schedule whose length differs from that of the run by more than `max-mismatch`.

    ## When it may be wrong

    - Schedules that are stepped per batch and count batches pass, as OneCycleLR usually is; warm restarts swing on
      purpose.
    - Without the number of epochs only what a single epoch shows is judged.
    - A loop that leaves its `range()` early, by a limit on steps or by patience, is shorter than it says.
    - Of rates set by hand, and of schedules that do not derive from torch's, only the course is looked at.

    ## How to fix

    ```python
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    for epoch in range(epochs):
        train_one_epoch(model, loader, optimizer)
        scheduler.step()
    ```
    """
    if schedules.steps < limits.min_steps:
        raise Inconclusive(f"needs {count(limits.min_steps, 'step')}, saw {schedules.steps}")
    looked = [Pace.of(schedule, schedules) for schedule in schedules.schedules]
    if not looked:
        raise Inconclusive("no scheduler was described")
    first = looked[0]
    yield Measured(first.per_step if math.isfinite(first.per_step) else None, None, first.text())
    for pace in looked:
        yield from _judge(pace, limits)


def _judge(pace: Pace, limits: Limits) -> Iterator[Finding]:
    schedule = pace.schedule
    if schedule.calls == 0:
        if pace.seen.epochs_seen and not schedule.mentioned:
            yield _finding(
                pace,
                f"{schedule.kind} is never stepped: {count(pace.seen.epochs_seen, 'epoch')} went by without a call of "
                "its step(), and the rate stays what it was",
                0.0,
                1.0,
                fix="Step it after each epoch: `scheduler.step()`, or remove it.",
            )
        return
    looked = (
        _micro(pace),
        _batchwise(pace, limits),
        _epochwise(pace),
        _negative(pace),
        _dies(pace, limits),
        _never_warm(pace, limits),
        _begun_anew(pace, limits),
    )
    fault = next((found for found in looked if found), None)
    if fault is not None:
        yield fault
        return
    if schedule.before_update and not pace.seen.skipped_steps:
        yield _finding(
            pace,
            f"{schedule.kind} is stepped before the first optimizer.step(): the first rate of the schedule is skipped",
            float(schedule.before_update),
            0.0,
            severity=Severity.NOTE,
            fix="Swap the calls: `optimizer.step(); scheduler.step()`.",
        )
        return
    yield from _length(pace, limits)


def _micro(pace: Pace) -> Finding | None:
    """Stepped at every micro-batch, while its length is in optimizer steps."""
    k = max(1, pace.seen.backwards_per_step)
    per_epoch, length = pace.steps_per_epoch, pace.length
    if k < 2 or not 0.9 * k <= pace.per_step <= 1.1 * k or per_epoch is None or length is None:
        return None
    total = per_epoch * pace.epochs if pace.epochs else None
    fits = abs(length - total) <= 0.05 * total if total else length % per_epoch == 0 and length % (per_epoch * k) != 0
    if not fits:
        return None
    return _finding(
        pace,
        f"{pace.schedule.kind} is stepped at every micro-batch, {k} times per optimizer step, and declares "
        f"{pace.schedule.period_name}={length}, which are optimizer steps: it is over after 1/{k} of the run",
        pace.per_step,
        1.0,
        fix="Step it together with the optimizer: `optimizer.step(); scheduler.step()`.",
    )


def _batchwise(pace: Pace, limits: Limits) -> Finding | None:
    """Stepped per batch, though it counts epochs."""
    per_epoch, schedule = pace.steps_per_epoch, pace.schedule
    if not pace.batchwise or per_epoch is None or per_epoch < 3:
        return None
    calls = per_epoch * max(1.0, pace.per_step)
    length = pace.length
    in_epochs = pace.epochs is not None and pace.epochs > 1 and length == pace.epochs and length < calls
    if in_epochs and schedule.period_name in ("T_max", "total_iters"):
        return _finding(
            pace,
            f"{schedule.kind}({schedule.period_name}={length}) counts epochs ({pace.epochs} are planned) but is "
            f"stepped at every batch: it is over after {length} of the {number(calls)} batches of the first epoch",
            calls,
            1.0,
            fix=f"Step it once per epoch, or use `{schedule.period_name}={pace.epochs} * len(loader)`.",
        )
    left = left_after(schedule, calls)
    if left is not None and left < limits.max_decay and (pace.epochs or 2) > 1:
        return _finding(
            pace,
            f"{schedule.kind} is stepped at every batch: after one epoch of {number(calls)} batches "
            f"{number(left)} of the learning rate is left",
            left,
            limits.max_decay,
            fix="Step it once per epoch, after the loop over the batches: `scheduler.step()`.",
        )
    return None


def _negative(pace: Pace) -> Finding | None:
    """The rate crosses zero: from there on, each step climbs."""
    ahead = pace.schedule.ahead
    below = next((place for place, rate in enumerate(ahead) if rate < 0), None)
    if below is None or below >= len(ahead) / 2:
        return None
    calls = math.ceil(pace.schedule.calls_ahead * (below + 1) / len(ahead))
    return _finding(
        pace,
        f"{pace.schedule.kind} goes on below zero: in {count(calls, 'more call')} the learning rate will be "
        f"{number(ahead[below])}, and {number(ahead[-1])} when the loop ends; steps then climb the loss",
        ahead[-1],
        0.0,
        severity=Severity.ERROR,
        fix="Step it at the pace that its formula counts in, and bound it below: `max(0.0, 1 - step / total_steps)`.",
    )


def _dies(pace: Pace, limits: Limits) -> Finding | None:
    """The rate is gone, or will be within an epoch by the course that it takes, whatever schedule makes it."""
    rates = [rate for rate in pace.schedule.rates if math.isfinite(rate)]
    if len(rates) < limits.min_steps or not max(rates) > 0 or pace.epochwise or not pace.batchwise:
        return None
    late = rates[3 * len(rates) // 4 :]
    left = max(late) / max(rates)
    if left <= limits.max_decay:  # and steps go on at that rate
        first = next(index for index, rate in enumerate(rates) if rate <= limits.max_decay * max(rates))
        return _dead(pace, f"after {count(first + 1, 'step')} {number(late[0] / max(rates))}", left, limits)
    ahead = pace.steps_per_epoch if pace.epochs is None or pace.epochs > 1 else None
    if ahead is not None and pace.epochs is not None:
        ahead *= max(1, min(limits.max_early, pace.epochs // 4))
    if ahead is None and pace.seen.planned_steps:
        ahead = pace.seen.planned_steps // 4
    if ahead is None or ahead <= len(rates):
        return None
    later = left_at(pace.schedule, rates, ahead)
    if later is None or later >= limits.max_decay:
        return None
    return _dead(pace, f"at this pace, after {count(ahead, 'step')} {number(later)}", later, limits)


def _dead(pace: Pace, text: str, left: float, limits: Limits) -> Finding:
    return _finding(
        pace,
        f"{pace.schedule.kind} is lowered at every optimizer step: {text} of the learning rate is left",
        left,
        limits.max_decay,
        fix="Lower the rate once per epoch, or make the schedule as long as the run has optimizer steps.",
    )


def _epochwise(pace: Pace) -> Finding | None:
    """Stepped per epoch, though it counts batches."""
    per_epoch, length = pace.steps_per_epoch, pace.length
    if not pace.epochwise or per_epoch is None or length is None or per_epoch < 3:
        return None
    if pace.schedule.period_name not in ("total_steps", "T_max", "total_iters"):
        return None
    batches = max(1, pace.seen.batches_per_epoch or per_epoch)
    if pace.epochs is not None:
        wholes = {pace.epochs * per_epoch, pace.epochs * batches}
        counted = any(abs(length - whole) <= 0.05 * whole for whole in wholes) and length > 2 * pace.epochs
    else:
        counted = pace.schedule.period_name == "total_steps" and (length % per_epoch == 0 or length % batches == 0)
    if not counted:
        return None
    planned = f"{pace.epochs} calls" if pace.epochs is not None else "one call per epoch"
    return _finding(
        pace,
        f"{pace.schedule.kind}({pace.schedule.period_name}={length}) counts batches but is stepped once per epoch: of "
        f"its {length} steps it will take {planned}, and the rate hardly leaves its start",
        1.0 / per_epoch,
        1.0,
        remedy=RemedyKind.STEP_SCHEDULE,
        fix="Step it after every batch: `optimizer.step(); scheduler.step()`.",
    )


def _never_warm(pace: Pace, limits: Limits) -> Finding | None:
    """Stepped per epoch, and still at the foot of its warm-up when the run ends."""
    ramp = unfinished_ramp(pace.schedule) if pace.epochwise and (pace.epochs or 0) > 1 else None
    if ramp is None or ramp.share > limits.max_warm:
        return None
    return _finding(
        pace,
        f"{pace.schedule.kind} rises for {count(ramp.calls, 'call')} and is stepped once per epoch: in the "
        f"{pace.epochs} epochs that are planned the rate comes to {percent(ramp.share)} of its peak of "
        f"{number(ramp.peak)}, after every batch it would come past it",
        ramp.share,
        limits.max_warm,
        remedy=RemedyKind.STEP_SCHEDULE,
        fix="Step it after every batch: `optimizer.step(); scheduler.step()`.",
    )


def _begun_anew(pace: Pace, limits: Limits) -> Finding | None:
    """The scheduler before it, of the same line and the same course of training, was left in its warm-up."""
    left, peak = pace.schedule.left_at, pace.schedule.left_before
    if left is None or peak is None or not 0 <= left < limits.max_warm * peak:
        return None
    return _finding(
        pace,
        f"{pace.schedule.kind} is built anew while its optimizer goes on: the one before was left at a rate of "
        f"{number(left)}, on the way to {number(peak)}, and this one begins at the start again",
        left / peak,
        limits.max_warm,
        fix="Restore the scheduler with the optimizer: `scheduler.load_state_dict(checkpoint['scheduler'])`; within "
        "one run, build it once, outside of the loop.",
    )


def _length(pace: Pace, limits: Limits) -> Iterator[Finding]:
    """The declared length and the run's differ."""
    per_epoch, length, epochs = pace.steps_per_epoch, pace.length, pace.epochs
    if not length or epochs is None or pace.schedule.period_name not in ("T_max", "total_steps"):
        return
    if pace.batchwise and per_epoch is not None:
        planned = per_epoch * max(1.0, pace.per_step) * epochs
    elif pace.epochwise:
        planned = float(epochs)
    else:
        return
    if 1 / limits.max_mismatch <= planned / length <= limits.max_mismatch:
        return
    course = "it will end early in its course" if planned < length else "the rate rises again after that"
    yield _finding(
        pace,
        f"{pace.schedule.kind} declares {pace.schedule.period_name}={length}, and the loop comes to {number(planned)} "
        f"calls: {course}",
        planned / length,
        limits.max_mismatch,
        severity=Severity.NOTE,
        fix=f"Take the length from the loop: `{pace.schedule.period_name}={number(planned)}`.",
    )


def _finding(
    pace: Pace,
    message: str,
    measured: float,
    limit: float,
    *,
    fix: str,
    severity: Severity = Severity.WARNING,
    remedy: RemedyKind = RemedyKind.HOLD_RATE,
) -> Finding:
    facts = []
    if pace.seen.batches_per_epoch:
        facts.append(f"{count(pace.seen.batches_per_epoch, 'batch')} per epoch")
    if pace.epochs:
        facts.append(f"{count(pace.epochs, 'epoch')} planned")
    rates = pace.schedule.rates
    if len(rates) > 1 and all(math.isfinite(rate) for rate in rates):
        facts.append(f"the rate went from {number(rates[0])} to {number(rates[-1])} in {count(len(rates), 'call')}")
    return Finding(
        message=message,
        where=pace.schedule.kind,
        location=pace.schedule.step_location or pace.schedule.location,
        measured=measured,
        limit=limit,
        severity=severity,
        confidence=Confidence.CONFIRMED,
        detail=("; ".join(facts),) if facts else (),
        fix=fix,
        remedies=(Remedy(kind=remedy),),
    )
