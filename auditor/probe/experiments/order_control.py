"""Replay the recorded batches in their order, and their samples mixed anew; ask afterwards what is known of all.

Where the order of the data drags the weights along - one class after the other, one shard after the other - what came
first is forgotten in the end; with the very same samples in mixed batches it is not (catastrophic interference,
McCloskey and Cohen 1989, doi 10.1016/S0079-7421(08)60536-8).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from auditor.evidence import OrderControl
from auditor.probe.batches import batch_dimension, map_tensors, size_bytes, tensors
from auditor.probe.experiments.feasible import require_rewindable
from auditor.probe.experiments.paired import hopeless
from auditor.probe.feed import Fetched
from auditor.probe.replay import Experiment, NotRun, Replay, Trail
from auditor.probe.stepdata import StepData

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

ASKED = 16  # mixed batches on which the loss is taken at a rate of zero
FEWEST = 24  # steps of training
MIXED_ORDERS = 2  # of whole batches: the one that does worse counts


def order_control(probe: Probe) -> Experiment:
    collector = probe.collectors.find("sample_order")
    if collector is None or not collector.wants_control():
        raise NotRun("the labels do not come in an order that would need a control", "not-applicable")
    require_rewindable(probe)
    if not probe.feed.has_loader and not probe.substituting:
        raise NotRun("the loop draws its batches itself, and their order cannot be changed")
    first, count = probe.first_recorded, probe.observed - probe.first_recorded
    if count < FEWEST:
        raise NotRun(f"only {count} batches were recorded: their order can hardly matter")
    if collector.keeps_batches():
        return (yield from _whole_batches(probe, first, count))
    recorded, extra = _mixed(probe, first, count)
    start = len(recorded)
    asked = [start + place for place in _spread(count)]
    arms: list[tuple[float, ...]] = []
    recorded.extend(extra)
    try:
        for label, begin in (("batches in their order", first), ("samples in mixed batches", start)):
            arms.append((yield from _asked_after(label, [*range(begin, begin + count)], asked)))
    finally:
        del recorded[start:]
    return _control(probe, arms, count)


def _whole_batches(probe: Probe, first: int, count: int) -> Generator[Replay, Trail, OrderControl]:
    """A sampler that puts samples into batches on purpose, by their length say: only the order of the batches is
    changed, of one pass."""
    starts = [start for start in probe.feed.epoch_starts if start > first]
    count = min([count, *(start - first for start in starts)])
    if count < FEWEST:
        raise NotRun(f"only {count} batches of one pass were recorded: their order can hardly matter")
    places = [*range(first, first + count)]
    asked = [first + place for place in _spread(count)]
    natural = yield from _asked_after("batches in their order", places, asked)
    arms = []
    for seed in range(MIXED_ORDERS):
        mixed = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
        order = [places[place] for place in mixed]
        arms.append((yield from _asked_after("batches in mixed order", order, asked)))
    return _control(probe, [natural, max(arms, key=statistics.fmean)], count, whole=True)


def _spread(count: int) -> list[int]:
    return [round(index * (count - 1) / (ASKED - 1)) for index in range(ASKED)]


def _asked_after(label: str, places: list[int], asked: list[int]) -> Generator[Replay, Trail, tuple[float, ...]]:
    """Train on the recorded steps at those places; then the losses of those that are asked for."""
    count = len(places)
    trail = yield Replay(
        steps=count + ASKED,
        label=label,
        fewest=count + ASKED,
        order=_places([*places, *asked]),
        rate=lambda step: 1.0 if step < count else 0.0,
        seed=0,
        stop=hopeless,
    )
    trail.require(count + ASKED)
    if len(trail.losses) < count + ASKED:
        raise NotRun("the loss did not stay finite")
    return tuple(trail.losses[count:])


def _control(probe: Probe, arms: list[tuple[float, ...]], count: int, whole: bool = False) -> OrderControl:
    return OrderControl(
        natural=arms[0],
        mixed=arms[1],
        steps=count,
        whole=whole,
        level=statistics.fmean(probe.observed_losses()[:3]),
        fidelity=probe.fidelity,
        location=probe.loss_facts().location,
    )


def _places(places: list[int]) -> Callable[[int], int]:
    return lambda step: places[min(step, len(places) - 1)]


def _mixed(probe: Probe, first: int, count: int) -> tuple[list[Any], list[Any]]:
    """What feeds the steps, and as many steps with the same samples in other company."""
    feed = probe.feed
    lists: list[list[Any]] = list(feed.by_loader.values()) if feed.has_loader else [feed.steps]
    if len(lists) > 1 or (feed.has_loader and len(lists[0]) != probe.observed):
        raise NotRun("a step takes several batches, whose samples cannot be mixed")
    steps = lists[0][first : first + count]
    if feed.has_loader:
        contents = mix([each.batch for each in steps])
        return lists[0], [Fetched(batch, each.noise) for batch, each in zip(contents, steps, strict=True)]
    contents = mix([[[[call.args, call.kwargs] for call in step.calls], list(step.targets)] for step in steps])
    return lists[0], [
        StepData(
            [replace(call, args=given[0], kwargs=given[1]) for call, given in zip(step.calls, calls, strict=True)],
            list(targets),
        )
        for step, (calls, targets) in zip(steps, contents, strict=True)
    ]


def mix(steps: list[Any]) -> list[Any]:
    """The rows of all tensors, dealt out anew to steps of the same sizes. Raises NotRun where they are no rows."""
    sizes = [batch_dimension(step) for step in steps]
    tables = [list(tensors(step)) for step in steps]
    alike = {tuple((tensor.shape[1:], tensor.dtype) for tensor in table if tensor.dim()) for table in tables}
    if None in sizes or len(alike) != 1 or len({len(table) for table in tables}) != 1:
        raise NotRun("the batches are not made of rows that could be mixed")
    if 2 * sum(size_bytes(step) for step in steps) > 2**30:
        raise NotRun("the batches are too large to be mixed")
    rows = [size for size in sizes if size is not None]
    places = torch.randperm(sum(rows), generator=torch.Generator().manual_seed(1))
    columns = [
        torch.split(torch.cat(column)[places.to(column[0].device)], rows) if column[0].dim() else column
        for column in map(list, zip(*tables, strict=True))
    ]
    mixed = []
    for number, step in enumerate(steps):
        parts = iter([column[number] for column in columns])
        mixed.append(map_tensors(step, lambda _, parts=parts: next(parts)))  # type: ignore[misc]
    return mixed
