"""Replay at the rate that dividing the accumulated losses amounts to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditor.evidence import Accumulation, DividedAccumulation
from auditor.probe.collect import Unavailable
from auditor.probe.experiments.feasible import require_rewindable
from auditor.probe.experiments.paired import paired_looks
from auditor.probe.replay import Experiment, NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

STEPS = 60
FEWEST = 15
WHOLE = 0.01  # relative distance of a ratio from 1 at which the loss counts as undivided


def divided_accumulation(probe: Probe) -> Experiment:
    collector = probe.collectors.find("accumulation")
    if collector is None:
        raise NotRun("nothing is accumulated", "not-applicable")
    try:
        seen = collector.part()
    except Unavailable as why:
        raise NotRun(str(why), why.outcome) from None
    if not undivided(seen):
        raise NotRun("the accumulated losses are divided, or nothing is accumulated", "not-applicable")
    if seen.scale_free:
        raise NotRun(f"{seen.optimizer} takes the same steps whatever the losses are divided by", "not-applicable")
    require_rewindable(probe)
    share = 1 / max(2, seen.per_step)
    looks = yield from paired_looks(probe, "accumulated losses divided", STEPS, FEWEST, rate=lambda step: share)
    return DividedAccumulation(per_step=seen.per_step, looks=tuple(looks), fidelity=probe.fidelity)


def undivided(seen: Accumulation) -> bool:
    """Each micro-batch's mean loss goes into backward() as it is."""
    return (
        seen.per_step > 1
        and seen.batches == seen.per_step
        and bool(seen.ratios)
        and all(abs(ratio - 1) <= WHOLE for ratio in seen.ratios)
        and (seen.own_means or seen.reductions == ("mean",))
    )
