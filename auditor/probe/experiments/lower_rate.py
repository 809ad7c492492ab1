"""Replay at a quarter of the learning rate: same weights, same batches, same random numbers.

Where that is better, a longer one at a sixteenth of the rate. A rate that suits the program is far ahead of it even
then; one that is too high makes progress at first, and is overtaken.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from auditor.evidence import LowerRate, PairedReplay
from auditor.probe.experiments.feasible import require_rewindable
from auditor.probe.experiments.paired import Looks, end_level, favours_treatment, paired_looks
from auditor.probe.replay import Experiment, NotRun

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
    return LowerRate(
        factor=FACTOR,
        learning_rate=probe.reference_rate(),
        optimizer=type(record.optimizer).__name__,
        looks=tuple(looks),
        far_factor=FAR_FACTOR,
        far_looks=tuple(far),
        fidelity=probe.fidelity,
        location=record.location,
    )


def _far_looks(probe: Probe, looks: list[PairedReplay]) -> Looks:
    """None where the first of the nearer looks does not ask for them, or where time is short."""
    wanted = len(looks) > 1 and favours_treatment(looks[0]) and math.isfinite(end_level(looks[0].control))
    if not wanted or probe.director.affordable_steps() < 2 * FAR_FEWEST:
        return []
    try:
        return (yield from paired_looks(probe, "a sixteenth", FAR_STEPS, FAR_FEWEST, rate=lambda step: FAR_FACTOR))
    except NotRun:  # the loop ended: what the nearer looks say counts nevertheless
        return []
