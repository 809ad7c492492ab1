"""How many of the class labels of each loss call are the ignored one, and the counts that losses by hand divide by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from auditor.evidence import EmptyMean, IgnoredLabels, LabelSite, Location
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.locate import user_location
from auditor.probe.losscall import LossCall
from auditor.probe.lossgraph import kind, parents
from auditor.probe.savedtensors import kept

LARGEST = 2**22  # labels of one call; counting more would cost time
NEAR = 12  # nodes of a loss's graph, next to its end
PUT_TOGETHER = frozenset({"Add", "Sub", "Mul", "Neg", "Div", "Mean", "Sum", "Stack", "ToCopy", "Squeeze"})


class _Site:
    def __init__(self, call: LossCall) -> None:
        self.call = (call.name, call.location, call.reduction, call.ignore_index)
        self.steps: list[int] = []
        self.labels: list[int] = []
        self.ignored: list[torch.Tensor] = []  # 0-d, on their device


@dataclass
class _Mean:
    """Steps whose loss was divided by something, with (2,) loss and divisor of each."""

    steps: list[int] = field(default_factory=list)
    told: list[torch.Tensor] = field(default_factory=list)


class IgnoredLabelsCollector(Collector):
    name = "ignored_labels"
    looks_on = True

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._sites: dict[tuple[str, Location | None], _Site] = {}
        self._means: dict[Location | None, _Mean] = {}

    def loss_called(self, call: LossCall) -> None:
        if not call.class_labels or not 0 < call.target.numel() <= LARGEST:
            return
        site = self._sites.get((call.name, call.location))
        if site is None:
            site = self._sites[(call.name, call.location)] = _Site(call)
        site.steps.append(self.step)
        site.labels.append(call.target.numel())
        site.ignored.append((call.target.detach() == call.ignore_index).sum())

    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None:
        root = roots[0] if roots else None
        if root is None or root.grad_fn is None or root.dim():
            return
        divisors = _divisors(root.grad_fn)
        if divisors:
            mean = self._means.setdefault(user_location(), _Mean())
            mean.steps.append(self.step)
            mean.told.append(torch.stack([root.detach().double(), *(each.double() for each in divisors[:1])]))

    def part(self) -> IgnoredLabels:
        means = tuple(each for each in (_empty(mean, place) for place, mean in self._means.items()) if each is not None)
        if not self._sites and not means:
            raise Unavailable("no loss with class labels was called")
        return IgnoredLabels(sites=tuple(map(_describe, self._sites.values())), means=means)


def _divisors(root: Any) -> list[torch.Tensor]:
    """0-d tensors without a graph that the loss, or a summand of it, is divided by; on the device of the loss."""
    found: list[torch.Tensor] = []
    queue = [root]
    for node in queue:  # grows while it is read
        if kind(node) not in PUT_TOGETHER:
            continue
        above = parents(node)
        if kind(node) == "Div" and len(above) == 1:
            other = kept(node, "other")
            if isinstance(other, torch.Tensor) and not other.dim() and not other.is_complex():
                found.append(other.detach())
        queue.extend(parent for parent in above if len(queue) < NEAR)
    return found


def _empty(mean: _Mean, place: Location | None) -> EmptyMean | None:
    """None where what it is divided by is no count, or never was 0."""
    losses, counts = torch.stack(mean.told).cpu().unbind(1)
    whole = bool((counts == counts.round()).all()) and bool((counts >= 0).all())
    bad = losses.isnan()
    steps = [step for step, empty in zip(mean.steps, ((counts == 0) & bad).tolist(), strict=True) if empty]
    if not whole or not steps or mean.steps[int(bad.int().argmax())] != steps[0]:  # spoilt before, by something else
        return None
    return EmptyMean(location=place, calls=len(mean.steps), empty=len(steps), first_empty=steps[0])


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
