"""Rows that a model is evaluated on without a loader, kept for the search for near-duplicates: `model(x_test)`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from auditor.evidence import Location, NearDuplicates
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.heldoutnames import held_out_name
from auditor.probe.locate import user_location

MOST_ROWS = 600
MOST_NUMBERS = 2**22
MOST_LOOKS = 100  # at names in the source


class HeldOutRowsCollector(Collector):
    """`nearscan` sends the part: where loaders hand out both sides, and where these rows are one of them."""

    name = "near_duplicates"
    looks_on = True

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self.rows: list[torch.Tensor] = []  # of the first evaluation whose data the source calls held-out
        self.called = ""
        self.location: Location | None = None
        self._step = -1
        self._looks = 0

    @property
    def count(self) -> int:
        return sum(len(rows) for rows in self.rows)

    def evaluation_forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self._looks >= MOST_LOOKS or self.count >= MOST_ROWS or (self.rows and self.step != self._step):
            return
        given = [each for each in tensors((args, kwargs)) if each.layout == torch.strided and each.dim()]
        if len(given) != 1 or given[0].dim() < 2 or not given[0].is_floating_point():
            return
        self._looks += 1
        name = held_out_name(given[0])
        if not name or (self.called and name != self.called):
            return
        rows = given[0].detach()[: MOST_ROWS - self.count]
        if rows.numel() + sum(each.numel() for each in self.rows) > MOST_NUMBERS:
            return
        if self.rows and rows.shape[1:] != self.rows[0].shape[1:]:
            return
        self.rows.append(rows.clone())
        self.called, self._step, self.location = name, self.step, self.location or user_location()

    def part(self) -> NearDuplicates:
        raise Unavailable("no training and held-out loaders were seen to compare")
