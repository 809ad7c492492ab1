"""How many of the class labels of each loss call are the ignored one."""

from __future__ import annotations

from typing import Any

import torch

from auditor.evidence import IgnoredLabels, LabelSite, Location
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.losscall import LossCall

LARGEST = 2**22  # labels of one call; counting more would cost time


class _Site:
    def __init__(self, call: LossCall) -> None:
        self.call = (call.name, call.location, call.reduction, call.ignore_index)
        self.steps: list[int] = []
        self.labels: list[int] = []
        self.ignored: list[torch.Tensor] = []  # 0-d, on their device


class IgnoredLabelsCollector(Collector):
    name = "ignored_labels"
    looks_on = True

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._sites: dict[tuple[str, Location | None], _Site] = {}

    def loss_called(self, call: LossCall) -> None:
        if not call.class_labels or not 0 < call.target.numel() <= LARGEST:
            return
        site = self._sites.get((call.name, call.location))
        if site is None:
            site = self._sites[(call.name, call.location)] = _Site(call)
        site.steps.append(self.step)
        site.labels.append(call.target.numel())
        site.ignored.append((call.target.detach() == call.ignore_index).sum())

    def part(self) -> IgnoredLabels:
        if not self._sites:
            raise Unavailable("no loss with class labels was called")
        return IgnoredLabels(sites=tuple(map(_describe, self._sites.values())))


def _describe(site: _Site) -> LabelSite:
    ignored = torch.stack(site.ignored).tolist()
    empty = [step for step, out, count in zip(site.steps, ignored, site.labels, strict=True) if out == count]
    name, location, reduction, ignore_index = site.call
    return LabelSite(
        function=name,
        location=location,
        reduction=reduction,
        ignore_index=ignore_index,
        calls=len(site.steps),
        empty=len(empty),
        first_empty=empty[0] if empty else None,
        labels=sum(site.labels),
        ignored=sum(ignored),
    )
