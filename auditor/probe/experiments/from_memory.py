"""The loop with its batches from memory: is it the loading that its steps wait for?"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

import torch

from auditor.evidence import FedFromMemory
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.replay import Experiment, NotRun, Replay

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

STEPS = 16
FEWEST = 6
WORTHWHILE = 0.2  # share of a step, waited


def no_waiting(probe: Probe) -> str:
    """Why the experiment makes no sense here, '' where it does."""
    collector = probe.collectors.find("data_wait")
    waited, seconds = collector.medians() if collector is not None else (0.0, 0.0)
    return "" if waited > WORTHWHILE * seconds else "the loop hardly waits for its data"


def fed_from_memory(probe: Probe) -> Experiment:
    if reason := no_waiting(probe):
        raise NotRun(reason, "not-applicable")
    require_rewindable(probe)
    _, seconds = probe.collectors.find("data_wait").medians()
    marks: list[tuple[float, float]] = []  # when, and how much of the time until then was ours

    def at_update(step: int, parameters: list[torch.Tensor]) -> None:
        if len(marks) <= step:
            marks.append((time.perf_counter(), probe.own_seconds))

    trail = yield Replay(
        steps=STEPS, fewest=FEWEST, label="batches from memory", order=order(probe), at_update=at_update
    )
    trail.require(FEWEST)
    if len(marks) < FEWEST:
        raise NotRun("too few steps of the optimizer were timed")
    took = [
        max(0.0, (now - before) - (own - own_before)) for (before, own_before), (now, own) in itertools.pairwise(marks)
    ]
    return FedFromMemory(observed=seconds, seconds=tuple(took))
