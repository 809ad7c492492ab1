"""Fingerprints of one rank of a distributed program: what it is fed, and how its weights go.

The ranks' own communication is left alone: a collective call of ours would wait for ranks that are not audited. The
fingerprints go out as evidence, and the audit of rank 0 lays those of all ranks side by side (auditor/ranks.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
import xxhash
from torch.utils.data import IterableDataset

from auditor.evidence import RankPrint, Ranks
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.parts.program import length
from auditor.probe.program import sampler_of
from auditor.probe.randomness import RandomState, reseed
from auditor.probe.samples import content, item_reader
from auditor.probe.steps import StepSeen

if TYPE_CHECKING:
    from auditor.probe.program import LoaderSeen

ELEMENTS = 64  # of each weight, strided
MOST_SAMPLES = 8192
CONTENT_BATCHES = 40  # of a stream, hashed row by row
ITEMS = 4  # of the dataset, read to know it again
SEED = 90_001


def world() -> tuple[int, int]:
    """(rank, number of ranks); (0, 1) for a program of one process."""
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


class RanksCollector(Collector):
    name = "ranks"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._rank, self._world = 0, 1
        self._weights: list[torch.Tensor] = []
        self._contents: dict[int, list[tuple[int, ...]]] = {}  # id(loader) -> its first batches
        self._parallel: Literal["", "ddp", "sharded"] = ""

    def batch_fetched(self, seen: LoaderSeen, batch: Any) -> None:
        if world()[1] < 2 or not isinstance(getattr(seen.loader, "dataset", None), IterableDataset):
            return
        rows = self._contents.setdefault(id(seen), [])
        first = next((tensor for tensor in tensors(batch) if tensor.dim() > 0), None)
        if first is not None and len(rows) < CONTENT_BATCHES:
            rows.append(tuple(xxhash.xxh32_intdigest(_bytes(row)) for row in first))

    def step_ended(self, step: StepSeen) -> None:
        if self._world < 2:
            self._rank, self._world = world()
            if self._world < 2:
                return
            self._parallel = self._kind_of_parallel()
        if self._parallel != "sharded":
            weights = [p.detach().reshape(-1) for p in self.probe.program.trained_parameters() if p.numel()]
            pieces = [w[:: max(1, w.numel() // ELEMENTS)][:ELEMENTS].float() for w in weights if not w.is_meta]
            if pieces:
                self._weights.append(torch.cat([piece.to(pieces[0].device) for piece in pieces]))

    def _kind_of_parallel(self) -> Literal["", "ddp", "sharded"]:
        parameters = self.probe.program.trained_parameters()
        kinds = {type(value).__name__ for p in parameters for value in (p, p.data)}
        if kinds & {"DTensor", "FlatParameter", "ShardedTensor"}:
            return "sharded"
        for module in self.probe.program.kept:
            if isinstance(module, torch.nn.parallel.DistributedDataParallel):
                return "ddp"
        return ""

    def part(self) -> Ranks:
        if self._world < 2:
            raise Unavailable("the script trains in one process")
        return Ranks(world_size=self._world, rank=self._rank, prints=(self._print(),))

    def _print(self) -> RankPrint:
        models = [model for _, model in self.probe.program.models()]
        return RankPrint(
            rank=self._rank,
            digests=tuple(xxhash.xxh3_64_hexdigest(_bytes(weights)) for weights in self._weights),
            levels=tuple(float(weights.double().norm()) for weights in self._weights),
            buffers=sum(1 for model in models for _ in model.buffers()),
            parallel=self._parallel,
            model_location=self.probe.program.location_of(models[0]) if models else None,
            **self._data(),
        )

    def _data(self) -> dict[str, Any]:
        seen = next((record for record in self.probe.program.loaders if record.training_credits), None)
        if seen is None:
            return {}
        sampler = sampler_of(seen.loader)
        dataset = getattr(seen.loader, "dataset", None)
        stream = isinstance(dataset, IterableDataset)
        batches = self._contents.get(id(seen), []) if stream else [_numbers(batch) for batch in _first(seen)]
        return {
            "dataset": "" if stream else _fingerprint(dataset),
            "samples": None if stream else length(dataset),
            "sampler": "" if stream else type(sampler).__name__,
            "pass_samples": None if stream else length(sampler),
            "replacement": bool(getattr(sampler, "replacement", False)),
            "by": "content" if stream else "index",
            "batches": tuple(_limited(batches)),
            "location": seen.location,
        }


def _first(seen: LoaderSeen) -> list[Any]:
    return seen.passes[0] if seen.passes else []


def _numbers(batch: Any) -> tuple[int, ...]:
    """The indices of one batch; keys of other kinds are hashed."""
    whole = batch if isinstance(batch, list) else [batch]
    return tuple(i if isinstance(i, int) else xxhash.xxh32_intdigest(repr(i).encode()) for i in whole)


def _limited(batches: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    kept, total = [], 0
    for batch in batches:
        total += len(batch)
        if total > MOST_SAMPLES:
            break
        kept.append(batch)
    return kept


def _fingerprint(dataset: Any) -> str:
    """Equal for equal datasets in different processes, '' where items cannot be read. Random augmentation draws the
    same numbers everywhere."""
    total = length(dataset)
    if not total:
        return ""
    noise = RandomState.capture()
    read = item_reader(dataset)
    parts = [f"{type(dataset).__name__} {total}".encode()]
    try:
        for place in range(ITEMS):
            reseed(SEED + place)
            found = content(read(place * (total - 1) // max(1, ITEMS - 1)))
            if found is None:
                return ""
            parts.append(found)
    except Exception:  # the user's own code
        return ""
    finally:
        noise.restore()
    return xxhash.xxh3_64_hexdigest(b"|".join(parts))


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
