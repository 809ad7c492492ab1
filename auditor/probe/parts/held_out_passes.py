"""What held-out loaders hand out, pass by pass: every sample's fingerprint, in order."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import xxhash
from torch.utils.data import IterableDataset

from auditor.evidence import HeldOutLoader, HeldOutPass, HeldOutPasses
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.parts.program import describe_loader, length
from auditor.probe.program import LoaderSeen, chosen
from auditor.probe.randomness import RandomState, reseed
from auditor.probe.samples import content

MOST_SAMPLES = 4096  # of one pass
MOST_BYTES = 64 * 2**20
SECONDS = 1.0  # of fingerprinting, in all, and of reading again
REREAD = 8  # samples of a dataset
SEEDS = (70_003, 70_004)


@dataclass
class _Pass:
    step: int
    prints: list[int] = field(default_factory=list)
    fetched: int = 0
    size: int = 0
    full: bool = True  # every sample was fingerprinted


class HeldOutPassesCollector(Collector):
    name = "held_out_passes"
    looks_on = True
    reads_data = True

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._passes: dict[int, tuple[LoaderSeen, list[_Pass]]] = {}
        self._datasets: dict[int, Callable[[], Any]] = {}  # id of a loader's record -> its dataset, while it lives
        # ids of records whose pass under way is over another set, by the same line, while the first one lives
        self._elsewhere: set[int] = set()
        self._optimizers: dict[int, int] = {}  # id of a loader's record -> how many had been built by its latest pass
        self._seconds = 0.0
        self._reread: dict[int, tuple[int, int]] = {}  # id of a loader's record -> what reading again gave

    def pass_started(self, seen: LoaderSeen) -> None:
        if seen.training_credits:
            return
        _, passes = self._passes.setdefault(id(seen), (seen, []))
        dataset = getattr(seen.loader, "dataset", None)
        known = self._datasets.setdefault(id(seen), _reference(dataset))()
        self._elsewhere.discard(id(seen))
        if known is not None and known is not dataset:
            self._elsewhere.add(id(seen))
            return
        if known is None:
            self._datasets[id(seen)] = _reference(dataset)
            # Another training with other samples, as in the next fold of a cross-validation.
            if self._optimizers.get(id(seen), 0) != len(self.probe.program.optimizers):
                passes.clear()
        self._optimizers[id(seen)] = len(self.probe.program.optimizers)
        passes.append(_Pass(self.step))
        del passes[1:-1]  # the first and the latest are compared

    def batch_fetched(self, seen: LoaderSeen, batch: Any) -> None:
        known = self._passes.get(id(seen))
        if seen.training_credits or known is None or not known[1] or id(seen) in self._elsewhere:
            return
        current = known[1][-1]
        current.fetched += 1
        if len(current.prints) >= MOST_SAMPLES or current.size > MOST_BYTES or self._seconds > SECONDS:
            current.full = False
            return
        began = time.perf_counter()
        prints, size = fingerprints(batch)
        current.prints += prints
        current.size += size
        self._seconds += time.perf_counter() - began

    def part(self) -> HeldOutPasses:
        held_out = [(seen, passes) for seen, passes in self._passes.values() if seen.role == "held-out"]
        if not held_out:
            raise Unavailable("no held-out loader was used")
        noise = RandomState.capture()
        try:
            until = time.monotonic() + SECONDS
            for seen, _ in held_out:
                if id(seen) not in self._reread:
                    self._reread[id(seen)] = _reread(seen.loader, until)
        finally:
            noise.restore()
        return HeldOutPasses(
            loaders=tuple(_describe(seen, passes, self._reread[id(seen)]) for seen, passes in held_out)
        )


def _reference(dataset: Any) -> Callable[[], Any]:
    """Weak, so that a set which the script builds anew every epoch is let go."""
    try:
        return weakref.ref(dataset)
    except TypeError:
        return lambda: None


def _reread(loader: Any, until: float) -> tuple[int, int]:
    """(samples of the dataset read twice, with other random numbers, those that were not the same). What the user's
    dataset raises ends it: nothing is known then."""
    dataset: Any = getattr(loader, "dataset", None)
    part = chosen(loader)
    total = length(dataset)
    if total is None or isinstance(dataset, IterableDataset):
        return 0, 0
    read = changed = 0
    for place in part[:REREAD] if part is not None else range(min(REREAD, total)):
        contents = []
        for seed in SEEDS:
            reseed(seed)
            try:
                contents.append(content(dataset[place]))
            except Exception:
                return 0, 0
        if contents[0] is None or contents[1] is None:
            return 0, 0
        read += 1
        changed += contents[0] != contents[1]
        if time.monotonic() > until:
            break
    return read, changed


def _describe(seen: LoaderSeen, passes: list[_Pass], reread: tuple[int, int]) -> HeldOutLoader:
    record = describe_loader(seen)
    batches = _batches(seen.loader)
    used = [each for each in passes if each.prints]
    first, last = (used[0].prints, used[-1].prints) if len(used) > 1 else ([], [])
    compared = min(len(first), len(last))
    pool = set(first)
    return HeldOutLoader(
        loader=seen.name,
        location=seen.location,
        passes=tuple(
            HeldOutPass(
                step=each.step,
                samples=len(each.prints),
                complete=each.full and batches is not None and each.fetched >= batches,
            )
            for each in used
        ),
        compared=compared,
        same=sum(a == b for a, b in zip(first, last, strict=False)),
        found=sum(value in pool for value in last[:compared]),
        shuffled=record.shuffled,
        drop_last=record.drop_last,
        reread=reread[0],
        changed=reread[1],
    )


def _batches(loader: Any) -> int | None:
    try:
        return len(loader)
    except Exception:
        return None


def fingerprints(batch: Any) -> tuple[list[int], int]:
    """One number a sample, over its rows of all tensors of the batch; (the numbers, bytes read). A batch whose tensors
    share no first dimension counts as one sample."""
    found = [tensor.detach() for tensor in tensors(batch) if tensor.layout == torch.strided and tensor.dim()]
    found = [tensor.cpu().contiguous() for tensor in found]
    if not found:
        return [], 0
    rows = {tensor.shape[0] for tensor in found}
    bytes_of = [tensor.reshape(-1).view(torch.uint8).numpy() for tensor in found if tensor.numel()]
    views = [memoryview(values) for values in bytes_of]  # type: ignore[arg-type]
    size = sum(len(view) for view in views)
    if len(rows) != 1 or not views:
        digest = xxhash.xxh3_64()
        for view in views:
            digest.update(view)
        return [digest.intdigest()], size
    count = rows.pop()
    prints = []
    for row in range(count):
        digest = xxhash.xxh3_64()
        for view in views:
            width = len(view) // count
            digest.update(view[row * width : (row + 1) * width])
        prints.append(digest.intdigest())
    return prints, size
