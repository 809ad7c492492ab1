"""Replay with standardized inputs, for a program whose inputs are far from centered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from auditor.evidence import PairedReplay, StandardizedInputs, is_flag
from auditor.probe.batches import map_tensors
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.experiments.paired import favours_treatment, paired_looks
from auditor.probe.parts.inputs import MISMATCH, suspicious
from auditor.probe.replay import Experiment, NotRun, Replay, Trail

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from auditor.probe.probe import Probe
    from auditor.probe.replay import InputChange

STEPS = 60
FEWEST = 20
PATIENCE = 240  # steps, where neither arm moves in fewer


def standardized_inputs(probe: Probe) -> Experiment:
    require_rewindable(probe)
    collector = probe.inputs()
    if collector is None:
        raise NotRun("the model has no floating-point input", "not-applicable")
    inputs = collector.summary()
    if not suspicious(inputs):
        raise NotRun("the inputs are centered and of ordinary size: nothing to standardize", "not-applicable")
    stream = collector.chosen
    prepared = collector.prepared()
    layer, mean, std = prepared if prepared is not None else (None, *stream.moments())
    if prepared is None and len(mean) == len(inputs.channels):  # flags stay as they are
        flags = torch.tensor([is_flag(inputs.kind, channel) for channel in inputs.channels])
        mean, std = torch.where(flags, 0.0, mean), torch.where(flags, 1.0, std)

    def intervention(offsets: torch.Tensor) -> dict[str, Any]:
        change = standardization(inputs.shape, stream.axis, offsets, std)
        if inputs.further:
            return {"call_change": at_place(stream.place, change)}
        return {"input_change": change, "changed_layer": layer}

    looks = yield from paired_looks(probe, "standardized inputs", STEPS, FEWEST, longer=PATIENCE, **intervention(mean))
    rescaled = None
    if looks and favours_treatment(looks[0]) and (inputs.scale_ratio or 0.0) > MISMATCH:
        rescaled = yield from _rescaled(probe, looks[0], intervention(0 * mean))
    return StandardizedInputs(looks=tuple(looks), rescaled=rescaled, fidelity=probe.fidelity, location=inputs.location)


def _rescaled(
    probe: Probe, look: PairedReplay, intervention: dict[str, Any]
) -> Generator[Replay, Trail, PairedReplay | None]:
    """The first look again, with the scales of the features made equal and nothing else."""
    trail = yield Replay(
        steps=len(look.control),
        label="inputs of one scale",
        fewest=FEWEST,
        order=order(probe),
        **intervention,
    )
    if len(trail.losses) < FEWEST:
        return None
    return PairedReplay(start="initial", control=look.control, treated=tuple(trail.losses))


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


def at_place(place: int, change: InputChange) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Changes one of the floating-point tensors of a call, counted as the collector counts them."""

    def changed(args: Any, kwargs: Any) -> tuple[Any, Any]:
        passed = 0

        def one(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal passed
            if tensor.layout != torch.strided or not tensor.is_floating_point() or not tensor.numel():
                return tensor
            passed += 1
            return change(tensor) if passed == place + 1 and not tensor.requires_grad else tensor

        return map_tensors(args, one), map_tensors(kwargs, one)

    return changed
