"""Replay at a quarter of the learning rate: same weights, same batches, same random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditor.evidence import LowerRate
from auditor.probe.experiments.feasible import require_rewindable
from auditor.probe.experiments.paired import paired_looks
from auditor.probe.replay import Experiment, NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

FACTOR = 0.25
STEPS = 60
FEWEST = 20


def lower_rate(probe: Probe) -> Experiment:
    require_rewindable(probe)
    if probe.manual():
        raise NotRun("the weights are updated without a torch optimizer, whose rate could be changed")
    looks = yield from paired_looks(probe, "a quarter of the rate", STEPS, FEWEST, rate=lambda step: FACTOR)
    record = probe.program.stepped()[0]
    return LowerRate(
        factor=FACTOR,
        learning_rate=probe.reference_rate(),
        optimizer=type(record.optimizer).__name__,
        looks=tuple(looks),
        fidelity=probe.fidelity,
        location=record.location,
    )
