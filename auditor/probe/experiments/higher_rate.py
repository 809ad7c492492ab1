"""Replay at sixteen times the learning rate, and more: same weights, same batches, same random numbers.

Where that is ahead, also at rate zero: how far the loss has come at the script's own rate is told from there. The first
losses are no measure of it: batches differ by more than a low rate moves the loss.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Generator
from typing import TYPE_CHECKING

from auditor.evidence import HigherRate, RateLook
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.experiments.paired import end_level, hopeless
from auditor.probe.owners import has_weights_from_outside
from auditor.probe.replay import Experiment, NotRun, Replay, Trail

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

STEPS = 60
FEWEST = 20
ENOUGH = 0.3  # of the first loss gone at the user's own rate: it is not too low
FACTORS = (16.0, 256.0)
WORTH_MORE = 3.0  # times the control's fall, before a second look is taken
WORTH_STILL = 0.95  # of the control's end loss, above which nothing is asked about rate zero


def higher_rate(probe: Probe) -> Experiment:
    require_rewindable(probe)
    if probe.manual():
        raise NotRun("the weights are updated without a torch optimizer, whose rate could be changed")
    if not probe.reference_rate() > 0:
        raise NotRun(f"the learning rate in force is {probe.reference_rate():g}")
    fallen = _fall(probe.observed_losses())
    if fallen is None or fallen > ENOUGH:
        gone = f"by {fallen:.0%} " if fallen is not None else ""
        raise NotRun(f"the loss came down {gone}in the observed steps: the rate is not too low", "not-applicable")
    if has_weights_from_outside(probe.program):
        raise NotRun("the model starts from loaded weights, for which a small rate may be meant", "not-applicable")
    looks: list[RateLook] = []
    factors: tuple[float, ...] = FACTORS
    for seed, backwards in ((None, False), (20_011, True)):
        look = yield from _look(probe, factors, seed, backwards)
        if look is None:
            break
        looks.append(look)
        factors = (look.factor,)  # the second look repeats what the first one settled on
        if not look.between:
            break
    if not looks:
        raise NotRun("no time was left for the steps that this needs; allow more with --max-time")
    record = probe.program.stepped()[0]
    planned = probe.collectors.find("schedules")
    return HigherRate(
        learning_rate=probe.reference_rate(),
        optimizer=type(record.optimizer).__name__,
        looks=tuple(looks),
        planned_steps=planned.planned_steps() if planned is not None else None,
        fidelity=probe.fidelity,
        location=record.location,
    )


def _look(
    probe: Probe, factors: tuple[float, ...], seed: int | None, backwards: bool
) -> Generator[Replay, Trail, RateLook | None]:
    """Rate zero and a quarter of the high rate are tried only where that is far better: in most healthy programs it
    is not."""
    control = yield from _arm(probe, 1.0, seed, backwards)
    if control is None:
        return None
    highest: tuple[float, ...] = ()
    factor = 1.0
    for higher in factors:
        arm = yield from _arm(probe, higher, seed, backwards)
        if arm is None:
            break
        if not highest or end_level(arm) < end_level(highest):
            factor, highest = higher, arm
        if _falls_enough(arm) or not end_level(arm) < end_level(control):
            break
    if not highest:
        return None
    plain = RateLook(factor=factor, control=control, highest=highest)
    if not end_level(control) - end_level(highest) >= (1 - WORTH_STILL) * abs(end_level(control)):
        return plain
    still = yield from _arm(probe, 0.0, seed, backwards)
    if still is None or not _far_better(still, control, highest):
        return plain.model_copy(update={"still": still or ()})
    between = yield from _arm(probe, factor / 4, seed, backwards)
    return RateLook(factor=factor, control=control, between=between or (), highest=highest, still=still)


def _arm(
    probe: Probe, factor: float, seed: int | None, backwards: bool
) -> Generator[Replay, Trail, tuple[float, ...] | None]:
    trail = yield Replay(
        steps=STEPS,
        label=f"{factor:g} times the rate",
        fewest=FEWEST,
        order=order(probe, backwards=backwards),
        rate=lambda step: factor,
        peak_rate=True,
        seed=seed,
        stop=hopeless,
    )
    return tuple(trail.losses) if trail.usable or len(trail.losses) >= FEWEST else None


def _falls_enough(losses: tuple[float, ...]) -> bool:
    return math.isfinite(end_level(losses)) and losses[0] - end_level(losses) >= ENOUGH * abs(losses[0])


def _far_better(still: tuple[float, ...], control: tuple[float, ...], treated: tuple[float, ...]) -> bool:
    """The loss falls several times as far from where it stays at rate zero."""
    first, ends = end_level(still), (end_level(control), end_level(treated))
    return math.isfinite(ends[1]) and first - ends[1] > WORTH_MORE * max(first - ends[0], 0.0)


def _fall(losses: list[float]) -> float | None:
    """Share of the first loss that is gone; 0 for a loss that can be negative, None for one that is not finite."""
    if not losses or not all(math.isfinite(loss) for loss in losses):
        return None
    if min(losses) < 0 or losses[0] == 0:
        return 0.0
    return 1 - end_level(tuple(losses)) / statistics.median(losses[:3])
