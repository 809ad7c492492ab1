"""Which held-out samples training knows, and which it does not: kept by the scans of the data sets for a trial that
leaves the former out."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from auditor.evidence import RemedyKind
from auditor.probe.batches import batch_dimension, tensors
from auditor.probe.program import chosen
from auditor.probe.randomness import RandomState
from auditor.probe.replay import NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe
    from auditor.probe.program import LoaderSeen


@dataclass(frozen=True)
class Contamination:
    """Of one held-out loader. Positions are those in the loader, from 0."""

    held_out: LoaderSeen
    known: tuple[int, ...]
    others: tuple[int, ...]

    @property
    def share(self) -> float:
        return len(self.known) / max(1, len(self.known) + len(self.others))

    def batches(self, probe: Probe, rows: int, count: int) -> list[tuple[Any, Any]]:
        """`count` pairs of batches of `rows` samples each, of known ones and of others; no sample comes twice.

        Raises NotRun where there are too few samples, or where they do not make batches like those of training.
        """
        drawn = random.Random(0)  # a generator of our own
        known = drawn.sample(self.known, rows * count)
        others = drawn.sample(self.others, rows * count)
        collate, places = self._collate(), chosen(self.held_out.loader)
        dataset = self.held_out.loader.dataset
        pattern = _pattern(next(iter(probe.feed.by_loader.values()))[0].batch)

        def batch(positions: list[int]) -> Any:
            made = collate([dataset[places[position] if places is not None else position] for position in positions])
            if _pattern(made) != pattern or batch_dimension(made) != rows:
                raise NotRun(f"the samples of {self.held_out.name} do not make batches like those of training")
            return made

        noise = RandomState.capture()
        with probe.paused():
            try:
                cuts = [slice(start, start + rows) for start in range(0, rows * count, rows)]
                return [(batch(known[cut]), batch(others[cut])) for cut in cuts]
            except NotRun:
                raise
            except Exception as error:  # reading samples runs the user's own code
                raise NotRun(f"reading {self.held_out.name} failed: {type(error).__name__}: {error}") from None
            finally:
                noise.restore()

    def _collate(self) -> Callable[[list[Any]], Any]:
        collate = getattr(self.held_out.loader, "collate_fn", None)
        if collate is None or getattr(self.held_out.loader, "batch_sampler", None) is None:
            raise NotRun(f"{self.held_out.name} does not put batches together from single samples")
        return collate  # type: ignore[no-any-return]


def keep(probe: Probe, kind: RemedyKind, held_out: LoaderSeen, known: Collection[int], every: Collection[int]) -> None:
    """`every`: positions of all samples compared. With several training loaders, what any of them has is known."""
    before = probe.contaminated.get((kind, held_out.name))
    places = {*known, *(before.known if before is not None else ())}
    if places:
        others = tuple(position for position in every if position not in places)
        probe.contaminated[kind, held_out.name] = Contamination(held_out, tuple(sorted(places)), others)


def _pattern(batch: Any) -> list[tuple[Any, int]]:
    """Kinds of the tensors of a batch."""
    return [(tensor.dtype, tensor.dim()) for tensor in tensors(batch)]
