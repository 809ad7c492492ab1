"""The order of the training samples: does it change from pass to pass, are the labels sorted, do they drift?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import (
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from auditor.evidence import Location, SampleOrder
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.losscall import LossCall
from auditor.probe.parts.program import length
from auditor.probe.parts.targets import REGRESSIONS
from auditor.probe.program import sampler_of

if TYPE_CHECKING:
    from auditor.probe.program import LoaderSeen

VALUES = 2048  # of one sample, strided
SKETCH = 24  # dimensions of a random projection, which keeps distances
MOST_SAMPLES = 20_000
FEWEST_COMPARED = 16
BINS = 5  # equally frequent ones, that continuous targets are put into
FEWEST_BATCHES = 24
MOST_CLASSES = 256
UNEVEN = 0.04  # purity of a stream's batches from which a whole pass is worth its time
SELDOM = 0.3  # calls of another loss, over those of the one that is looked at: an evaluation after each epoch
ODD = 0.2  # purity or drift of labels from which a control of the order is worth its steps


class SampleOrderCollector(Collector):
    name = "sample_order"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._sketch: torch.Tensor | None = None  # of the present step's input
        self._projection: torch.Tensor | None = None
        # name and place of a loss call -> (batch,) labels and (batch, SKETCH) inputs
        self._calls: dict[tuple[str, Location | None], list[tuple[torch.Tensor, torch.Tensor | None]]] = {}
        self._count = 0

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._sketch = None
        if self._listens():
            given = (t for t in tensors((args, kwargs)) if t.dim() > 0 and t.numel() and t.layout == torch.strided)
            first = next(given, None)
            if first is not None and not first.is_complex():
                self._sketch = self._project(first.detach())

    def loss_called(self, call: LossCall) -> None:
        if not self._listens() or self._count >= MOST_SAMPLES:
            return
        labels = _labels(call)
        if labels is None:
            return
        fits = self._sketch is not None and self._sketch.shape[0] == labels.shape[0]
        self._calls.setdefault((call.name, call.location), []).append((labels, self._sketch if fits else None))
        self._sketch = None
        self._count += labels.shape[0]

    def _listens(self) -> bool:
        """In the first pass of a loader that goes through its data as they lie or by a sampler of its own; all along in
        a stream or in a loop that makes its batches itself."""
        loader = self._loader()
        if loader is None:
            return self._by_hand()
        if isinstance(getattr(loader.loader, "dataset", None), IterableDataset):
            return True
        return len(loader.passes) == 1 and (_is_sequential(loader.loader) or _is_own(loader.loader))

    def _by_hand(self) -> bool:
        return not any(
            seen.training_credits or seen.fetches > 0 for seen in self.probe.program.loaders if _trains(seen)
        )

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
        if len(trained) > 1:
            raise Unavailable("the loop is fed by several DataLoaders")
        stream = bool(trained) and isinstance(getattr(trained[0].loader, "dataset", None), IterableDataset)
        if not trained or stream:
            found = self._statistics()
            if not found:
                kind = "the dataset is iterable" if stream else "the loop is not fed by a DataLoader"
                raise Unavailable(f"{kind}, and no loss with one label for each sample tells in which order they come")
            place = trained[0].location if stream else max(self._calls, key=lambda key: len(self._calls[key]))[1]
            name = trained[0].name if stream else ""
            return SampleOrder(
                loader=name, sampler="", feed="stream" if stream else "loop", sequential=False, location=place, **found
            )
        seen = trained[0]
        loader = seen.loader
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
            own=_is_own(loader),
            passes=len(seen.passes),
            compared=compared,
            repeated=repeated,
            location=seen.location,
            **self._statistics(),
        )

    def _statistics(self) -> dict[str, Any]:
        calls = sorted(self._calls.values(), key=len, reverse=True)
        if not calls or (len(calls) > 1 and len(calls[1]) > SELDOM * len(calls[0])):  # losses with labels of their own
            return {}
        pieces = [each for each, _ in calls[0]]
        sizes = {tuple(each.shape) for each in pieces[:-1]}
        if len(sizes) > 1 and self._loader() is not None:  # hand-made batches may differ in size
            return {}
        labels = torch.cat([each.cpu() for each in pieces])
        continuous = labels.is_floating_point()
        if continuous:
            labels = _binned(labels)
        batches = list(torch.split(labels, [each.shape[0] for each in pieces]))
        same = labels[1:] == labels[:-1]
        alikeness, pairs = _alikeness([sketch for _, sketch in calls[0]], labels, same)
        return {
            "labels": tuple(torch.unique(labels, return_counts=True)[1].tolist()),
            "continuous": continuous,
            "neighbours_equal": int(same.sum()),
            "batch_classes": sum(len(set(each.tolist())) for each in batches) / len(batches),
            "alikeness": alikeness,
            "alikeness_pairs": pairs,
            **composition(labels, batches),
        }

    def uneven_stream(self) -> tuple[SampleOrder, Any] | None:
        """A stream whose batches differ in their classes more than by chance, and its data set."""
        loader = self._loader()
        try:
            found = self.part()
        except Unavailable:
            return None
        if loader is None or found.feed != "stream" or found.continuous or (found.purity or 0.0) < UNEVEN:
            return None
        return found, loader.loader.dataset

    def keeps_batches(self) -> bool:
        """A sampler of the script's own forms the batches, and as far as is known hands them out in the same order in
        every pass."""
        try:
            found = self.part()
        except Unavailable:
            return False
        return _may_repeat(found)

    def wants_control(self) -> bool:
        """Whether a replay in another order is to tell if the order does harm."""
        try:
            found = self.part()
        except Unavailable:
            return False
        if _may_repeat(found):
            return len(found.labels) > 1 and found.drift is not None and found.drift >= ODD
        if found.feed == "loader" and (found.shuffles or not found.sequential):
            return False
        return len(found.labels) > 1 and max(found.purity or 0.0, found.drift or 0.0) >= ODD


def _alikeness(
    sketches: list[torch.Tensor | None], labels: torch.Tensor, same: torch.Tensor
) -> tuple[float | None, int]:
    """Twice the mean variance within a class is the mean squared distance of two of its samples at random."""
    kept = [sketch for sketch in sketches if sketch is not None]
    if len(kept) < len(sketches):
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


def _may_repeat(found: SampleOrder) -> bool:
    """Where the observation ends in the first pass, a second one is seen when the loop is looked on, if at all."""
    return found.own and (found.repeated or found.passes < 2)


def _is_own(loader: Any) -> bool:
    known = (SequentialSampler, DistributedSampler, RandomSampler, WeightedRandomSampler, SubsetRandomSampler)
    sampler = sampler_of(loader)
    return sampler is not None and not isinstance(sampler, known)


def _labels(call: LossCall) -> torch.Tensor | None:
    """(rows,) integer class labels, one for each sample; None where there are others."""
    if call.class_labels and call.input.dim() == 2:
        return call.target.detach()
    if not call.target.dim() or not call.target.numel() or call.target.requires_grad:
        return None
    if call.binary_labels and call.target.numel() == call.target.shape[0]:
        return (call.target.detach().reshape(-1) > 0.5).long()
    if call.name in REGRESSIONS and call.target.numel() == call.target.shape[0] and call.target.is_floating_point():
        return call.target.detach().reshape(-1)
    return None


def _trains(seen: LoaderSeen) -> bool:
    return seen.training_credits > 0 or not seen.held_out_credits


def _binned(values: torch.Tensor) -> torch.Tensor:
    """Equally frequent classes of continuous values."""
    finite = values[torch.isfinite(values)].double()
    if not finite.numel():
        return torch.zeros(values.shape, dtype=torch.long)
    edges = torch.quantile(finite[:: max(1, finite.numel() // 100_000)], torch.linspace(0, 1, BINS + 1).double()[1:-1])
    return torch.bucketize(values.double(), edges)


def composition(labels: torch.Tensor, batches: list[torch.Tensor]) -> dict[str, Any]:
    """How far batches differ in their classes, and the first third of them from the last one."""
    classes, numbers = torch.unique(labels, return_inverse=True)
    if len(batches) < FEWEST_BATCHES or not 2 <= len(classes) <= MOST_CLASSES:
        return {}
    sizes = [each.shape[0] for each in batches]
    table = torch.stack([torch.bincount(each, minlength=len(classes)) for each in torch.split(numbers, sizes)]).double()
    pairs = (table.sum(1) * (table.sum(1) - 1)).sum()
    whole = table.sum(0)
    chance = (whole * (whole - 1)).sum() / (whole.sum() * (whole.sum() - 1))
    third = len(batches) // 3
    ends = torch.stack([table[:third].sum(0), table[-third:].sum(0)])
    shares = ends / ends.sum(1, keepdim=True).clamp(min=1)
    expected = ends.sum(0) * ends.sum(1, keepdim=True) / ends.sum()
    kept = expected.amin(0) >= 5
    statistic = ((ends - expected).square() / expected.clamp(min=1e-9))[:, kept].sum()
    purity = float((table * (table - 1)).sum() / pairs - chance) / float(1 - chance) if pairs and chance < 1 else None
    return {
        "batches": len(batches),
        "purity": purity,
        "drift": 0.5 * float((shares[0] - shares[1]).abs().sum()),
        "drift_statistic": float(statistic),
        "drift_freedom": max(0, int(kept.sum()) - 1),
    }


def _compare(passes: list[list[Any]]) -> tuple[int, bool]:
    """(leading samples that the first two passes have in common by number, whether they are the same)."""
    if len(passes) < 2:
        return 0, False
    first, second = (_flat(order) for order in passes[:2])
    count = min(len(first), len(second))
    return count, count > 0 and first[:count] == second[:count]


def _flat(order: list[Any]) -> list[Any]:
    return [index for batch in order for index in (batch if isinstance(batch, list) else [batch])]
