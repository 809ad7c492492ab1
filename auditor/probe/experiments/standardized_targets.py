"""Replay with standardized targets, where they are far from the size of a fresh network's outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from auditor.evidence import StandardizedTargets
from auditor.probe.experiments.feasible import require_rewindable
from auditor.probe.experiments.paired import paired_looks
from auditor.probe.parts.targets import REGRESSIONS
from auditor.probe.replay import Experiment, NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

STEPS = 100
FEWEST = 20
OFF_CENTER = 3.0  # |mean| / std
SMALL, LARGE = 0.05, 20.0  # standard deviations


def standardized_targets(probe: Probe) -> Experiment:
    require_rewindable(probe)
    collector = probe.collectors.find("targets")
    moments = collector.moments() if collector is not None else None
    if moments is None:
        raise NotRun("no regression loss of torch was called with targets of the data", "not-applicable")
    mean, std = moments
    if std == 0:
        raise NotRun("all targets are equal", "not-applicable")
    if abs(mean) <= OFF_CENTER * std and SMALL <= std <= LARGE:
        raise NotRun("the targets are centered and of ordinary size: nothing to standardize", "not-applicable")
    if not probe.loss_facts().covers_loss():
        raise NotRun("the loss is more than the regression loss, so that its arms cannot be brought to one unit")
    power = REGRESSIONS[collector.call.name]

    def change(target: torch.Tensor) -> torch.Tensor:
        return (target - mean) / std if target.is_floating_point() else target

    looks = yield from paired_looks(probe, "standardized targets", STEPS, FEWEST, target_change=change, unit=std**power)
    return StandardizedTargets(
        looks=tuple(looks),
        mean=mean,
        std=std,
        fidelity=probe.fidelity,
        location=collector.call.location,
    )
