"""Replay at a quarter of the learning rate: same weights, same batches, same random numbers.

Where that is better, a longer one at a sixteenth of the rate. A rate that suits the program is far ahead of it even
then; one that is too high makes progress at first, and is overtaken.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import TYPE_CHECKING

from auditor.evidence import LowerRate, PairedReplay
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.experiments.paired import Looks, end_level, favours_treatment, hopeless, paired_looks
from auditor.probe.replay import Experiment, NotRun, Replay, Trail

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

FACTOR = 0.25
STEPS = 60
FEWEST = 20
FAR_FACTOR = 0.0625
FAR_STEPS = 240
FAR_FEWEST = 120


def lower_rate(probe: Probe) -> Experiment:
    require_rewindable(probe)
    if probe.manual():
        raise NotRun("the weights are updated without a torch optimizer, whose rate could be changed")
    looks = yield from paired_looks(probe, "a quarter of the rate", STEPS, FEWEST, rate=lambda step: FACTOR)
    record = probe.program.stepped()[0]
    far = yield from _far_looks(probe, looks)
    annealed = yield from _annealed(probe, far)
    return LowerRate(
        factor=FACTOR,
        learning_rate=probe.reference_rate(),
        optimizer=type(record.optimizer).__name__,
        looks=tuple(looks),
        far_factor=FAR_FACTOR,
        far_looks=tuple(far),
        comes_down=probe.rate_comes_down(),
        annealed=annealed,
        fidelity=probe.fidelity,
        location=record.location,
    )


def _annealed(probe: Probe, far: list[PairedReplay]) -> Generator[Replay, Trail, tuple[float, ...]]:
    """Losses at the rate as it is, brought down by half a cosine over the steps of the first longer look."""
    if not far or not favours_treatment(far[0]) or not probe.rate_comes_down():
        return ()
    steps = min(len(far[0].control), len(far[0].treated), probe.director.affordable_steps())
    if steps < FAR_FEWEST:
        return ()
    trail = yield Replay(
        steps=steps,
        label="the rate brought down",
        fewest=steps,
        order=order(probe),
        rate=lambda step: (1 + math.cos(math.pi * (step + 1) / (steps + 1))) / 2,
        stop=hopeless,
    )
    return tuple(trail.losses) if len(trail.losses) == steps else ()


def _far_looks(probe: Probe, looks: list[PairedReplay]) -> Looks:
    """None where the first of the nearer looks does not ask for them, or where time is short."""
    wanted = len(looks) > 1 and favours_treatment(looks[0]) and math.isfinite(end_level(looks[0].control))
    if not wanted or probe.director.affordable_steps() < 2 * FAR_FEWEST:
        return []
    steps = FAR_STEPS
    if probe.rate_comes_down():  # time is kept for one arm more, beside one look or two
        affordable = probe.director.affordable_steps()
        arms = 5 if affordable >= 5 * FAR_FEWEST else 3
        steps = max(FAR_FEWEST, min(FAR_STEPS, affordable // arms))
    try:
        return (yield from paired_looks(probe, "a sixteenth", steps, FAR_FEWEST, rate=lambda step: FAR_FACTOR))
    except NotRun:  # the loop ended: what the nearer looks say counts nevertheless
        return []
