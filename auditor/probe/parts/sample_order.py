"""The order of the training samples: does it change from pass to pass, and are the labels sorted?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import (
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    WeightedRandomSampler,
)

from auditor.evidence import SampleOrder
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.losscall import LossCall
from auditor.probe.parts.program import length
from auditor.probe.program import sampler_of

if TYPE_CHECKING:
    from auditor.probe.program import LoaderSeen

VALUES = 2048  # of one sample, strided
SKETCH = 24  # dimensions of a random projection, which keeps distances
MOST_SAMPLES = 20_000
FEWEST_COMPARED = 16


class SampleOrderCollector(Collector):
    name = "sample_order"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._sketch: torch.Tensor | None = None  # of the present step's input
        self._projection: torch.Tensor | None = None
        self._labels: list[torch.Tensor] = []  # (batch,) of the first pass
        self._sketches: list[torch.Tensor | None] = []  # (batch, SKETCH)
        self._count = 0

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._sketch = None
        if self._in_first_sequential_pass():
            given = (t for t in tensors((args, kwargs)) if t.dim() > 0 and t.numel() and t.layout == torch.strided)
            first = next(given, None)
            if first is not None and not first.is_complex():
                self._sketch = self._project(first.detach())

    def loss_called(self, call: LossCall) -> None:
        if not self._in_first_sequential_pass() or self._count >= MOST_SAMPLES:
            return
        labels = _labels(call)
        if labels is None:
            return
        self._labels.append(labels)
        fits = self._sketch is not None and self._sketch.shape[0] == labels.shape[0]
        self._sketches.append(self._sketch if fits else None)
        self._sketch = None
        self._count += labels.shape[0]

    def _in_first_sequential_pass(self) -> bool:
        loader = self._loader()
        return loader is not None and len(loader.passes) == 1 and _is_sequential(loader.loader)

    def _loader(self) -> LoaderSeen | None:
        """The training loader; before its first backward, the only one that has been asked for a batch."""
        loaders = self.probe.program.loaders
        trained = [seen for seen in loaders if seen.training_credits]
        if not trained:
            trained = [seen for seen in loaders if seen.fetches and not seen.held_out_credits]
        return trained[0] if len(trained) == 1 else None

    def _project(self, batch: torch.Tensor) -> torch.Tensor:
        """(rows, SKETCH). Draws from a generator of its own."""
        rows = batch.reshape(batch.shape[0], -1)
        rows = rows[:, :: max(1, rows.shape[1] // VALUES)].float()
        if self._projection is None or self._projection.shape[0] != rows.shape[1]:
            generator = torch.Generator().manual_seed(1)
            self._projection = torch.randn(rows.shape[1], SKETCH, generator=generator).to(rows.device)
        return rows @ self._projection

    def part(self) -> SampleOrder:
        trained = [seen for seen in self.probe.program.loaders if seen.training_credits]
        if not trained:
            raise Unavailable("the loop is not fed by a DataLoader")
        if len(trained) > 1:
            raise Unavailable("the loop is fed by several DataLoaders")
        seen = trained[0]
        loader = seen.loader
        if isinstance(getattr(loader, "dataset", None), IterableDataset):
            raise Unavailable("the dataset is iterable: it decides itself in which order its samples come")
        sampler = sampler_of(loader)
        distributed = isinstance(sampler, DistributedSampler)
        shuffles = isinstance(sampler, RandomSampler | WeightedRandomSampler)
        compared, repeated = _compare(seen.passes)
        return SampleOrder(
            loader=seen.name,
            sampler=type(sampler).__name__,
            samples=length(loader.dataset),
            sequential=_is_sequential(loader),
            distributed=distributed,
            shuffles=bool(sampler.shuffle) if distributed else shuffles,
            passes=len(seen.passes),
            compared=compared,
            repeated=repeated,
            location=seen.location,
            **self._statistics(),
        )

    def _statistics(self) -> dict[str, Any]:
        if not self._labels:
            return {}
        sizes = {tuple(labels.shape) for labels in self._labels[:-1]}
        if len(sizes) > 1:  # several losses with labels of their own
            return {}
        labels = torch.cat([each.cpu() for each in self._labels])
        same = labels[1:] == labels[:-1]
        alikeness, pairs = self._alikeness(labels, same)
        return {
            "labels": tuple(torch.unique(labels, return_counts=True)[1].tolist()),
            "neighbours_equal": int(same.sum()),
            "batch_classes": sum(len(set(each.tolist())) for each in self._labels) / len(self._labels),
            "alikeness": alikeness,
            "alikeness_pairs": pairs,
        }

    def _alikeness(self, labels: torch.Tensor, same: torch.Tensor) -> tuple[float | None, int]:
        """Twice the mean variance within a class is the mean squared distance of two of its samples at random."""
        kept = [sketch for sketch in self._sketches if sketch is not None]
        if len(kept) < len(self._sketches):
            return None, 0
        rows = torch.cat([each.cpu() for each in kept]).double()
        distances = (rows[1:] - rows[:-1]).square().sum(1)[same]
        random = torch.zeros(())
        for label, weight in zip(*torch.unique(labels[1:][same], return_counts=True), strict=True):
            members = rows[labels == label]
            if members.shape[0] > 1:
                random = random + weight * 2 * members.var(dim=0).sum()
        if not float(random) > 0:
            return None, 0
        return float(distances.sum() / random), int(same.sum())


def _is_sequential(loader: Any) -> bool:
    sampler = sampler_of(loader)
    return isinstance(sampler, SequentialSampler) or (isinstance(sampler, DistributedSampler) and not sampler.shuffle)


def _labels(call: LossCall) -> torch.Tensor | None:
    """(rows,) integer class labels, one for each sample; None where there are others."""
    if call.class_labels and call.input.dim() == 2:
        return call.target.detach()
    if call.binary_labels and call.target.numel() == call.target.shape[0]:
        target = call.target.detach().reshape(-1)
        return (target > 0.5).long() if target.dim() else None
    return None


def _compare(passes: list[list[Any]]) -> tuple[int, bool]:
    """(leading samples that the first two passes have in common by number, whether they are the same)."""
    if len(passes) < 2:
        return 0, False
    first, second = (_flat(order) for order in passes[:2])
    count = min(len(first), len(second))
    return count, count > 0 and first[:count] == second[:count]


def _flat(order: list[Any]) -> list[Any]:
    return [index for batch in order for index in (batch if isinstance(batch, list) else [batch])]
