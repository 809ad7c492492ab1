"""Remedies where samples are mixed: which dimension counts them is told to the layers, or kept in what they get.

Measured beside the loop: with the same weights, by how much does one sample move the outputs of the others?
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from auditor.evidence import Remedy
from auditor.probe.callchange import ChangedCalls
from auditor.probe.examination import Examination
from auditor.probe.experiments.cross_sample import influence_of_others
from auditor.probe.remedies.treatment import Treatment
from auditor.probe.replay import NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

VIEWS = ("view", "reshape")


def batch_first(probe: Probe, remedy: Remedy) -> Treatment:
    layers = [
        module
        for _, model in probe.program.models()
        for module in model.modules()
        if isinstance(module, nn.RNNBase | nn.MultiheadAttention) and not module.batch_first
    ]
    if not layers:
        raise NotRun("no recurrent or attention layer takes the sequence first")

    @contextmanager
    def told() -> Iterator[None]:
        for layer in layers:
            layer.batch_first = True
        try:
            yield
        finally:
            for layer in layers:
                layer.batch_first = False

    return _measured(probe, told)


def swap_axes(probe: Probe, remedy: Remedy) -> Treatment:
    met: list[str] = []

    def change(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name not in VIEWS or not args or not isinstance(args[0], torch.Tensor):
            return NotImplemented
        result = function(*args, **kwargs)
        before, after = tuple(args[0].shape), tuple(result.shape)
        if (axis := _swapped(before, after)) is not None:
            met.append(name)
            return args[0].transpose(0, axis).contiguous()
        if (heads := _heads(before, after)) is not None:
            met.append(name)
            return args[0].reshape(heads, after[0], *before[1:]).movedim(0, -2).reshape(after)
        return NotImplemented

    return _measured(probe, lambda: ChangedCalls(change, None), met)


def _swapped(before: tuple[int, ...], after: tuple[int, ...]) -> int | None:
    """The dimension that has changed places with the first one; None where the shapes do not differ by just that."""
    if len(before) != len(after) or before == after:
        return None
    for axis in range(1, len(before)):
        moved = list(before)
        moved[0], moved[axis] = moved[axis], moved[0]
        if tuple(moved) == after:
            return axis
    return None


def _heads(before: tuple[int, ...], after: tuple[int, ...]) -> int | None:
    """How many parts, stacked along the batch, go side by side into the last dimension; None for other shapes."""
    if len(before) != len(after) or len(before) < 2 or not after[0] or before[1:-1] != after[1:-1]:
        return None
    heads = before[0] // after[0]
    fits = heads > 1 and before[0] == heads * after[0] and after[-1] == heads * before[-1]
    return heads if fits else None


def _measured(
    probe: Probe, changed: Callable[[], AbstractContextManager[Any]], met: list[str] | None = None
) -> Treatment:
    def gauge(examination: Examination) -> tuple[float, float]:
        as_it_is, _ = influence_of_others(probe, examination)
        with changed():
            treated, own = influence_of_others(probe, examination)
        if not own > 0:
            raise NotRun("a sample's output does not depend on the sample itself then")
        if met is not None and not met:
            raise NotRun("no view changes the order of the batch's axes")
        return as_it_is, treated

    return Treatment(metric="influence of other samples", gauge=gauge)
