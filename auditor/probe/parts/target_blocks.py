"""Regressions on a table whose rows lie in order: a block of rows whose targets belong to other ones.

The rows are known in their order where a loader hands out a `TensorDataset`, or a part of one, and where the loop
trains on all of them at once. Nothing of the script's own runs for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Subset, TensorDataset

from auditor.evidence import Location, TargetBlock
from auditor.probe.batches import tensors
from auditor.probe.blockscan import FEWEST_ROWS, block_of_noise
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.fingerprint import different, fingerprint

LARGEST = 2**24  # values of the inputs


@dataclass(frozen=True)
class _Table:
    inputs: list[torch.Tensor]
    targets: torch.Tensor
    location: Location | None
    rows: list[int] | None = None  # numbers of its rows in the whole data set, where it is a part of one
    whole: int = 0  # rows of that

    def number(self, row: int) -> int:
        return row if self.rows is None else self.rows[row]


class TargetBlocksCollector(Collector):
    name = "target_block"

    def part(self) -> TargetBlock:
        found = self._of_a_loader() or self._of_full_batches()
        if found is None:
            raise Unavailable("no regression on a table whose rows are known in their order was seen")
        block = block_of_noise(found.inputs, found.targets)
        count = found.whole or len(found.targets)
        if block is None:
            return TargetBlock(rows=count, location=found.location)
        return TargetBlock(
            rows=count,
            first=found.number(block.first),
            last=found.number(min(block.last, len(found.targets)) - 1) + 1,
            inside=block.inside,
            own=block.own,
            outside=block.outside,
            apart=block.apart,
            location=found.location,
        )

    def _of_a_loader(self) -> _Table | None:
        for seen in self.probe.program.loaders:
            data: Any = getattr(seen.loader, "dataset", None)
            rows: list[int] | None = None
            if type(data) is Subset:
                data, rows = data.dataset, sorted(data.indices)
            if not seen.training_credits or type(data) is not TensorDataset or len(data.tensors) < 2:
                continue
            if sum(each.numel() for each in data.tensors) > LARGEST:
                continue
            values = [each.detach() if rows is None else each.detach()[rows] for each in data.tensors]
            if _fits(values[:-1], values[-1]):
                return _Table(values[:-1], values[-1], seen.location, rows, len(data))
        return None

    def _of_full_batches(self) -> _Table | None:
        steps = self.probe.feed.steps[:2]
        if self.probe.feed.has_loader or len(steps) < 2:
            return None
        if not all(len(step.calls) == 1 and len(step.targets) == 1 for step in steps):
            return None
        if different([fingerprint(step.calls[0].args, step.calls[0].kwargs) for step in steps]) > 1:
            return None
        call, target = steps[0].calls[0], steps[0].targets[0][1]
        inputs = [each for each in tensors((call.args, call.kwargs)) if each.dim()]
        return _Table(inputs, target, self.probe.loss_facts().location) if _fits(inputs, target) else None


def _fits(inputs: list[torch.Tensor], targets: torch.Tensor) -> bool:
    if not inputs or not targets.is_floating_point() or not targets.dim() or len(targets) < FEWEST_ROWS:
        return False
    if any(each.device.type != "cpu" or len(each) != len(targets) for each in (*inputs, targets)):
        return False
    # Two values are classes, whatever their type.
    return sum(each.numel() for each in inputs) <= LARGEST and len(torch.unique(targets[:FEWEST_ROWS])) > 2
