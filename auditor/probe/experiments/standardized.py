"""Replay with standardized inputs, for a program whose inputs are far from centered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from auditor.evidence import Inputs, StandardizedInputs
from auditor.probe.experiments.feasible import require_rewindable
from auditor.probe.experiments.lower_rate import paired_looks
from auditor.probe.replay import Experiment, NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe
    from auditor.probe.replay import InputChange

STEPS = 40
FEWEST = 20
OFF_CENTER = 1.0  # |mean| / std of some channel
LARGE = 20.0  # largest absolute value


def standardized_inputs(probe: Probe) -> Experiment:
    require_rewindable(probe)
    collector = probe.inputs()
    if collector is None:
        raise NotRun("the model has no floating-point input", "not-applicable")
    inputs = collector.summary()
    if not suspicious(inputs):
        raise NotRun("the inputs are centered and of ordinary size: nothing to standardize", "not-applicable")
    change = standardization(inputs.shape, collector.axis, *collector.moments())
    looks = yield from paired_looks(probe, "standardized inputs", STEPS, FEWEST, change=change)
    return StandardizedInputs(looks=tuple(looks), fidelity=probe.fidelity, location=inputs.location)


def suspicious(inputs: Inputs) -> bool:
    """Whether the experiment is worth its steps."""
    if inputs.normalized_first or inputs.nonfinite:
        return False
    off = any(abs(channel.mean) > OFF_CENTER * channel.std > 0 for channel in inputs.channels)
    return off or max(abs(inputs.min), abs(inputs.max)) > LARGE


def standardization(shape: tuple[int, ...], axis: int | None, mean: torch.Tensor, std: torch.Tensor) -> InputChange:
    """(x - mean) / std along `axis`, on inputs of the recorded number of dimensions and channels; others stay.

    A channel that hardly varies is scaled by the typical one instead of blown up.
    """
    typical = std[std > 0].median() if bool((std > 0).any()) else torch.ones(())
    scale = torch.where(std > 1e-3 * typical, std, typical)

    def change(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() != len(shape) or not tensor.is_floating_point():
            return tensor
        if axis is None:
            return (tensor - mean.to(tensor)) / scale.to(tensor)
        if tensor.shape[axis] != mean.numel():
            return tensor
        view = [1] * tensor.dim()
        view[axis] = -1
        return (tensor - mean.to(tensor).view(view)) / scale.to(tensor).view(view)

    return change
