"""The script's own schedule of the learning rate, taken at every update."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import torch

from auditor.evidence import Remedy
from auditor.probe.remedies.treatment import Treatment
from auditor.probe.replay import NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

MOST = 500  # updates that a replay may have


def step_schedule(probe: Probe, remedy: Remedy) -> Treatment:
    """Its rates alone, from its first step on. A schedule that is made of others, or reads the loss, cannot be worked
    out ahead."""
    optimizers = {id(record.optimizer) for record in probe.program.stepped()}
    known = [each for each, _ in probe.program.schedulers if id(getattr(each, "optimizer", None)) in optimizers]
    if len(known) != 1 or hasattr(known[0], "_schedulers") or not hasattr(known[0], "get_lr"):
        raise NotRun("there is no single schedule whose rates can be worked out ahead")
    recorded = probe.recorded_groups.get((id(known[0].optimizer), 0), [])
    before = [float(options["lr"]) for options in recorded if "lr" in options]
    if not before or not all(rate > 0 for rate in before):
        raise NotRun("the learning rates of the recorded steps are not known")
    ahead = _rates(known[0], before[0])

    def factor(step: int) -> float:
        return ahead[min(step, len(ahead) - 1)] / before[min(step, len(before) - 1)]

    return Treatment({"rate": factor})


def _rates(scheduler: Any, first: float) -> list[float]:
    """Of updates one after the other; as long as the schedule itself says where it says so."""
    stand_in = torch.optim.SGD([torch.zeros(1)], lr=first)
    stand_in.param_groups = [
        {**{key: copy.deepcopy(value) for key, value in group.items() if key != "params"}, "params": [torch.zeros(1)]}
        for group in scheduler.optimizer.param_groups
    ]
    changed = copy.copy(scheduler)
    changed.optimizer, changed.last_epoch, changed._step_count = stand_in, 0, 1
    for group, base in zip(stand_in.param_groups, scheduler.base_lrs, strict=True):
        group["lr"] = first * base / scheduler.base_lrs[0] if scheduler.base_lrs[0] else first
    rates = [first]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(MOST):
            try:
                changed.step()
            except ValueError:  # it ends
                break
            rates.append(float(stand_in.param_groups[0]["lr"]))
    return rates
