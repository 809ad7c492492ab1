"""Remedies of what the loop is fed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from auditor.evidence import Remedy
from auditor.probe.experiments.standardized import at_place, standardization
from auditor.probe.parts.targets import REGRESSIONS
from auditor.probe.remedies.treatment import Treatment
from auditor.probe.replay import NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe


def standardize_inputs(probe: Probe, remedy: Remedy) -> Treatment:
    collector = probe.inputs()
    if collector is None:
        raise NotRun("the model has no floating-point input")
    inputs, stream, prepared = collector.summary(), collector.chosen, collector.prepared()
    if inputs.nonfinite:
        raise NotRun("the inputs are not finite, so they have no mean")
    layer, mean, std = prepared if prepared is not None else (None, *stream.moments())
    change = standardization(inputs.shape, stream.axis, mean, std)
    if inputs.further:
        return Treatment({"call_change": at_place(stream.place, change)})
    return Treatment({"input_change": change, "changed_layer": layer})


def standardize_targets(probe: Probe, remedy: Remedy) -> Treatment:
    collector = probe.collectors.find("targets")
    moments = collector.moments() if collector is not None else None
    if moments is None or moments[1] == 0:
        raise NotRun("no regression loss of torch was called with targets of the data that differ")
    if not probe.loss_facts().covers_loss():
        raise NotRun("the loss is more than the regression loss, so that its arms cannot be brought to one unit")
    mean, std = moments

    def change(target: torch.Tensor) -> torch.Tensor:
        return (target - mean) / std if target.is_floating_point() else target

    return Treatment({"target_change": change}, unit=std ** REGRESSIONS[collector.call.name])


def clean_inputs(probe: Probe, remedy: Remedy) -> Treatment:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point() or tensor.dim() < 1:
            return tensor
        finite = torch.isfinite(tensor)
        known = torch.where(finite, tensor, torch.zeros_like(tensor))
        mean = known.sum(0, keepdim=True) / finite.sum(0, keepdim=True).clamp(min=1)
        return torch.where(finite, tensor, mean.expand_as(tensor))

    return Treatment({"input_change": change})


def shuffle(probe: Probe, remedy: Remedy) -> Treatment:
    raise NotRun("the order of the samples is compared by an experiment of its own, which did not run")
