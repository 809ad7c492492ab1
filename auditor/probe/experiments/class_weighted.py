"""Replay with class weights: is a rare class out of reach, or merely outweighed?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditor.evidence import ClassWeighted, Labels, Remedy, RemedyKind
from auditor.probe.collect import Unavailable
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.experiments.paired import hopeless
from auditor.probe.remedies.losses import class_weights
from auditor.probe.replay import Experiment, NotRun, Replay

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

STEPS = 240
FEWEST = 80
UNEQUAL = 10  # times as many of the most frequent class as of the rarest
# Share of the rarest class at the end of the observation: above it, it is found without weights.
RECOGNISED = 0.05
RECOGNISED_OF_SAMPLES = 0.3  # the same where each sample has one label
FEWEST_SEEN = 20


def class_weighted(probe: Probe) -> Experiment:
    labels = _labels(probe)
    if labels.weighted_loss or labels.weighted_sampler:
        raise NotRun("the loss has weights already, or a sampler with weights", "not-applicable")
    counted = {c: n for c, n in enumerate(labels.counts) if n > 0 and c != labels.ignore_index}
    if len(counted) < 2 or max(counted.values()) < UNEQUAL * min(counted.values()):
        raise NotRun("the classes are about equally frequent", "not-applicable")
    rarest = min(counted, key=counted.__getitem__)
    seen, hits = (table[rarest] if rarest < len(table) else 0 for table in (labels.seen, labels.hits))
    recognised = RECOGNISED if labels.per_position else RECOGNISED_OF_SAMPLES
    if seen < FEWEST_SEEN or hits > recognised * seen:
        raise NotRun("the rarest class is recognised without weights, or was hardly seen", "not-applicable")
    require_rewindable(probe)
    treated = class_weights(probe, Remedy(kind=RemedyKind.CLASS_WEIGHTS))
    steps = max(FEWEST, min(STEPS, probe.director.affordable_steps() // 2))
    arms: list[tuple[float, ...]] = []
    for fields in ({}, treated.fields):
        trail = yield Replay(
            steps=steps,
            label="class weights" if fields else "class weights: control",
            fewest=FEWEST,
            order=order(probe),
            stop=hopeless,
            **fields,
        )
        trail.require(FEWEST)
        arms.append(tuple(trail.balanced))
    if not all(treated.met):
        raise NotRun("the loss takes no class weights")
    return ClassWeighted(
        control=arms[0], weighted=arms[1], classes=len(counted), fidelity=probe.fidelity, location=labels.location
    )


def _labels(probe: Probe) -> Labels:
    collector = probe.collectors.find("labels")
    if collector is None:
        raise NotRun("class labels were not looked at", "not-applicable")
    try:
        found: Labels = collector.part()
    except Unavailable as why:
        raise NotRun(str(why), why.outcome) from None
    return found
