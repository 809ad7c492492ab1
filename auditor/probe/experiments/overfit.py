"""Overfit a tiny pinned subset: the user's own loop must be able to memorise a handful of samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from auditor.evidence import Overfit, OverfitArm
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.experiments.floors import contradictions
from auditor.probe.replay import Experiment, NotRun, Replay, Trail

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

STEPS = 200
FEWEST = 40
# (factor on the rate, random numbers frozen). The user's own loop first. Frozen noise tells a loop whose randomness
# hides the targets from one that cannot learn at all; other rates tell a bad rate from it.
ARMS = ((1.0, False), (1.0, True), (0.1, True), (10.0, True))
LIVE_SEED = 40_009
SUCCESS = 0.05  # of the way from the first loss down to the floor may remain
ACCURACY = 0.99


def overfit(probe: Probe) -> Experiment:
    require_rewindable(probe)
    batch_size = probe.feed.batch_size() if (probe.feed.has_loader or probe.substituting) else None
    facts = probe.loss_facts()
    if facts.contrasts_the_batch():
        batch_size = None  # each sample's label is its own place in the batch: twins in it would contradict each other
    samples = _samples(batch_size)
    floor, reason = facts.floor(probe)
    if floor is not None and facts.labels is not None and batch_size is not None:
        entropy = contradictions(probe.feed.first_batch(), facts.labels, samples)
        if entropy:
            floor, reason = floor + entropy, "identical samples with different labels"
    arms: list[OverfitArm] = []
    target = math.nan
    initial = math.nan
    last: Trail | None = None
    planned = _arms(probe)
    while planned:
        factor, frozen = planned.pop(0)
        trail = yield _replay(probe, factor, frozen, samples, batch_size, floor)
        if not trail.losses and arms:
            break  # no time for a further arm
        trail.require(FEWEST)
        if math.isnan(initial):
            initial = trail.losses[0]
            target = _target(initial, floor)
        arm = _arm(factor, frozen, trail, target)
        arms.append(arm)
        last = trail
        if factor == 1.0 and _came_down(trail):  # a higher rate is the more likely one to do it, so it comes first
            planned.sort(key=lambda entry: (entry[0] != 1.0, -entry[0]))
        if arm.reached:
            # Was it the rate or the frozen noise? The same rate with live noise is the control.
            planned = [(factor, False)] if frozen and factor != 1.0 else []
    if not math.isfinite(initial):
        raise NotRun("the loss is not finite on the first batch")
    assert last is not None
    if batch_size is None and not any(arm.reached for arm in arms):
        raise NotRun(
            "the batch could not be cut to a few samples (its tensors have no common first dimension), and the whole "
            f"batch was not memorised within {max(len(arm.losses) for arm in arms)} steps, which proves nothing"
        )
    return Overfit(
        samples=samples,
        batch_size=batch_size or 0,
        tiled=batch_size is not None and samples < batch_size,
        floor=floor,
        floor_reason=reason,
        target=target,
        initial=initial,
        arms=tuple(arms),
        fidelity=probe.fidelity,
        constant_output=_constant(last),
        loss_function=facts.name,
        location=facts.location,
    )


def _samples(batch_size: int | None) -> int:
    """8 to 16 samples where the batch has as many."""
    if batch_size is None:
        return 0
    if batch_size >= 32:
        return 16
    return 8 if batch_size >= 16 else batch_size


def _arms(probe: Probe) -> list[tuple[float, bool]]:
    """Without random numbers in the loop, live and frozen noise are the same; by hand, there is no rate to change."""
    arms = [arm for arm in ARMS if probe.draws_random_numbers() or arm != (1.0, True)]
    return [arm for arm in arms if arm[0] == 1.0] if probe.manual() else arms


def _replay(
    probe: Probe, factor: float, frozen: bool, samples: int, batch_size: int | None, floor: float | None
) -> Replay:
    first = order(probe)(0)

    def done(losses: list[float]) -> bool:
        if not math.isfinite(losses[-1]):
            return True
        recent = losses[-3:]
        return len(recent) == 3 and max(recent) <= _target(losses[0], floor)

    return Replay(
        steps=STEPS,
        label=f"overfit at {factor:g} x the rate{', noise frozen' if frozen else ''}",
        fewest=FEWEST,
        order=lambda step: first,
        pinned=True,
        samples=samples if batch_size is not None and samples < batch_size else None,
        rate=lambda step: factor,
        peak_rate=True,
        dropout=False,
        weight_decay=False,
        seed=None if frozen else LIVE_SEED,
        stop=done,
    )


def _target(initial: float, floor: float | None) -> float:
    base = floor or 0.0
    return base + SUCCESS * max(initial - base, 0.0)


def _arm(factor: float, frozen: bool, trail: Trail, target: float) -> OverfitArm:
    accuracies = [value for value in trail.accuracies[-3:] if not math.isnan(value)]
    accuracy = sum(accuracies) / len(accuracies) if accuracies else None
    finite = [loss for loss in trail.losses[-3:] if math.isfinite(loss)]
    reached = bool(finite) and len(finite) == len(trail.losses[-3:]) and max(finite) <= target
    reached = reached or (accuracy is not None and accuracy >= ACCURACY and bool(finite))
    rate = trail.rates[0] if trail.rates else math.nan
    return OverfitArm(
        rate_factor=factor,
        learning_rate=rate,
        losses=tuple(trail.losses),
        accuracy=accuracy,
        reached=reached,
        frozen_noise=frozen,
    )


def _came_down(trail: Trail) -> bool:
    return math.isfinite(trail.losses[-1]) and trail.losses[-1] < trail.losses[0]


def _constant(trail: Trail) -> bool | None:
    spreads = [value for value in trail.spreads[-5:] if not math.isnan(value)]
    return max(spreads) < 1e-6 if spreads else None
