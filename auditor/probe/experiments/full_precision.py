"""Replay with weights and updates in float32, where steps leave many low-precision weights as they are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from auditor.evidence import FullPrecision, LowPrecision, Remedy, RemedyKind
from auditor.probe.collect import Unavailable
from auditor.probe.experiments.feasible import require_rewindable
from auditor.probe.experiments.paired import paired_looks
from auditor.probe.remedies import treatment
from auditor.probe.replay import Experiment, NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

STEPS = 480  # what is rounded away is missed late, when updates are small
FEWEST = 60
SPARE = 10  # steps between the arms
UNCHANGED = 0.1  # of the elements that a step wants to change


def full_precision(probe: Probe) -> Experiment:
    collector = probe.collectors.find("low_precision")
    if collector is None:
        raise NotRun("the updates were not looked at")
    try:
        seen = collector.part()
    except Unavailable as why:
        raise NotRun(str(why), why.outcome) from None
    if not loses(seen):
        raise NotRun("the updates arrive in the weights", "not-applicable")
    require_rewindable(probe)
    widened = treatment(probe, (Remedy(kind=RemedyKind.FULL_PRECISION),))
    steps = min(STEPS, probe.director.affordable_steps() // 4 - SPARE)  # two looks of two arms
    looks = yield from paired_looks(probe, "weights in float32", steps, FEWEST, **widened.fields)
    return FullPrecision(looks=tuple(looks), fidelity=probe.fidelity)


def loses(seen: LowPrecision) -> bool:
    return any(math.isfinite(look.unchanged) and look.unchanged >= UNCHANGED for look in seen.looks)
