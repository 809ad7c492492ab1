"""Replay with standardized inputs, for a program whose inputs are far from centered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from auditor.evidence import Inputs, PairedReplay, StandardizedInputs
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.experiments.paired import favours_treatment, paired_looks
from auditor.probe.replay import Experiment, NotRun, Replay, Trail

if TYPE_CHECKING:
    from collections.abc import Generator

    from auditor.probe.probe import Probe
    from auditor.probe.replay import InputChange

STEPS = 60
FEWEST = 20
OFF_CENTER = 1.0  # |mean| / std of some channel
LARGE = 20.0  # largest absolute value
SMALL = 0.02  # the same, of an image that may have been scaled down twice
TINY = 0.001  # the same, of anything else
MISMATCH = 100.0  # largest over smallest standard deviation of the features


def standardized_inputs(probe: Probe) -> Experiment:
    require_rewindable(probe)
    collector = probe.inputs()
    if collector is None:
        raise NotRun("the model has no floating-point input", "not-applicable")
    inputs = collector.summary()
    if not suspicious(inputs):
        raise NotRun("the inputs are centered and of ordinary size: nothing to standardize", "not-applicable")
    prepared = collector.prepared()
    layer, mean, std = prepared if prepared is not None else (None, *collector.moments())
    change = standardization(inputs.shape, collector.axis, mean, std)
    looks = yield from paired_looks(
        probe, "standardized inputs", STEPS, FEWEST, input_change=change, changed_layer=layer
    )
    rescaled = None
    if looks and favours_treatment(looks[0]) and (inputs.scale_ratio or 0.0) > MISMATCH:
        change = standardization(inputs.shape, collector.axis, 0 * mean, std)
        rescaled = yield from _rescaled(probe, looks[0], change, layer)
    return StandardizedInputs(looks=tuple(looks), rescaled=rescaled, fidelity=probe.fidelity, location=inputs.location)


def _rescaled(
    probe: Probe, look: PairedReplay, change: InputChange, layer: torch.nn.Module | None
) -> Generator[Replay, Trail, PairedReplay | None]:
    """The first look again, with the scales of the features made equal and nothing else."""
    trail = yield Replay(
        steps=len(look.control),
        label="inputs of one scale",
        fewest=FEWEST,
        order=order(probe),
        input_change=change,
        changed_layer=layer,
    )
    if len(trail.losses) < FEWEST:
        return None
    return PairedReplay(start="initial", control=look.control, treated=tuple(trail.losses))


def suspicious(inputs: Inputs) -> bool:
    """Whether the experiment is worth its steps."""
    if inputs.normalized_first or inputs.nonfinite:
        return False
    off = any(abs(channel.mean) > OFF_CENTER * channel.std > 0 for channel in inputs.channels)
    largest = max(abs(inputs.min), abs(inputs.max))
    tiny = 0 < largest < (SMALL if inputs.kind == "image" else TINY)
    return off or tiny or largest > LARGE or (inputs.scale_ratio or 0.0) > MISMATCH


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
