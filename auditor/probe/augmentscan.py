"""Whether random augmentation repeats itself: the same samples drawn by two workers, in two epochs, and in this
process.

The loader's own dataset, worker_init_fn, generator and way of starting workers are used; only the order of the samples
is ours. Nothing here follows from the source: what the workers draw decides.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import xxhash
from torch.utils.data import DataLoader, IterableDataset

from auditor.evidence import Augmentation, Unmirrored
from auditor.probe.batches import tensors
from auditor.probe.mirrored import SAMPLES, Mirrors
from auditor.probe.mispaired import mispaired
from auditor.probe.program import LoaderSeen
from auditor.probe.randomness import RandomState
from auditor.probe.samples import content
from auditor.probe.seededitems import declares_augmentation, seeded_items
from auditor.probe.tornpairs import torn

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

ITEMS = 24
DRAWS = 3  # of each item in this process
SECONDS = 4.0  # for all draws in this process
MIRROR_SECONDS = 2.0  # for further samples, where images are mirrored and targets are not
WORKER_SECONDS = 30  # until workers that do not answer are given up
MOST_WORKERS = 2
DELIVERED = 64


def scan_augmentation(probe: Probe) -> None:
    """Send the part `augmentation`, or why there is none."""
    trained = [seen for seen in probe.program.loaders if seen.training_credits]
    if len(trained) != 1:
        reason = "the loop is fed by several DataLoaders" if trained else "the loop is not fed by a DataLoader"
        probe.sink.absent("augmentation", "not-applicable", reason)
        return
    seen = trained[0]
    dataset = getattr(seen.loader, "dataset", None)
    if dataset is None or isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        probe.sink.absent("augmentation", "not-applicable", "the dataset is iterable: no sample can be asked for twice")
        return
    noise = RandomState.capture()
    generator = getattr(seen.loader, "generator", None)
    state = generator.get_state() if generator is not None else None
    with probe.paused():
        try:
            probe.sink.part("augmentation", _draw(probe, seen, dataset))
        except Exception as why:  # the user's own code, in this process and in workers
            reason = f"drawing samples again failed: {type(why).__name__}: {str(why)[:200]}"
            probe.sink.absent("augmentation", "inconclusive", reason)
        finally:
            noise.restore()
            if generator is not None:
                generator.set_state(state)


def _draw(probe: Probe, seen: LoaderSeen, dataset: Any) -> Augmentation:
    places = _places(seen, ITEMS)
    mirrors = Mirrors()
    kept: list[Any] = []
    firsts: list[Any] = []
    pairs = equal = turned = alone = 0
    until, drawn = time.monotonic() + SECONDS, 0
    for place in places:
        if time.monotonic() > until:
            break
        items = [dataset[place] for _ in range(DRAWS)]
        draws = [_digest(item) for item in items]
        firsts.append(items[0])
        drawn += 1
        if len(set(draws)) > 1:
            kept.append(place)
            found_turned, found_alone = torn(items)
            turned, alone = turned + found_turned, alone + found_alone
            mirrors.add(items)
            pairs += DRAWS * (DRAWS - 1) // 2
            equal += sum(draws[i] == draws[j] for i in range(DRAWS) for j in range(i))
    workers = int(getattr(seen.loader, "num_workers", 0) or 0)
    found: dict[str, Any] = {
        "items": drawn,
        "random": len(kept),
        "chance": equal / pairs if pairs else 0.0,
        "turned": turned,
        "torn": alone,
        "unmirrored": _unmirrored(mirrors, seen, dataset),
        **_collated(seen.loader, firsts),
    }
    if kept and workers:
        found |= _in_workers(seen.loader, dataset, kept, min(workers, MOST_WORKERS))
    if not kept and declares_augmentation(dataset):
        found["seeded"] = seeded_items(dataset, places[:drawn], lambda: time.monotonic() > until)
    if kept or found.get("seeded"):
        found |= _delivered(probe, seen)
    return Augmentation(loader=seen.name, workers=workers, location=seen.location, **found)


def _collated(loader: Any, items: list[Any]) -> dict[str, int]:
    """What the loader's own collate function makes of them, together and each alone."""
    collate = getattr(loader, "collate_fn", None)
    if collate is None or getattr(loader, "batch_sampler", None) is None:
        return {}
    try:
        rows, apart = mispaired(items, collate)
    except Exception:  # the user's own code, which may not take a single sample
        return {}
    return {"collated": rows, "mispaired": apart}


def _unmirrored(mirrors: Mirrors, seen: LoaderSeen, dataset: Any) -> Unmirrored | None:
    if not mirrors.axes():
        return None
    until = time.monotonic() + MIRROR_SECONDS
    places = itertools.takewhile(lambda _: time.monotonic() < until, _places(seen, SAMPLES))
    return mirrors.unmirrored([dataset[place] for place in places])


def _places(seen: LoaderSeen, most: int) -> list[Any]:
    """The first distinct indices that the loop's own sampler has drawn."""
    found: dict[Any, None] = {}
    for batch in seen.passes[0] if seen.passes else []:
        for index in batch if isinstance(batch, list) else [batch]:
            found.setdefault(index)
            if len(found) >= most:
                return list(found)
    return list(found)


def digests(items: list[Any]) -> list[int]:
    """The collate function of our own loader: it runs in the workers."""
    return [_digest(item) for item in items]


def _digest(item: Any) -> int:
    """Raises TypeError for content that cannot be seen."""
    found = content(item)
    if found is None:
        raise TypeError(f"the content of a {type(item).__name__} cannot be compared")
    return int(xxhash.xxh3_64_intdigest(found))


def _in_workers(loader: Any, dataset: Any, places: list[Any], workers: int) -> dict[str, int]:
    """Each worker is asked for the same samples in the same order, in two epochs."""
    ours: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=[places] * workers,
        num_workers=workers,
        collate_fn=digests,
        worker_init_fn=loader.worker_init_fn,
        generator=loader.generator,
        multiprocessing_context=loader.multiprocessing_context,
        persistent_workers=loader.persistent_workers,
        timeout=WORKER_SECONDS,
    )
    epochs = [list(ours), list(ours)]
    first = epochs[0]
    found = {"epoch_items": len(places), "epoch_equal": _alike(first[0], epochs[1][0])}
    if workers > 1:
        found |= {"worker_items": len(places), "worker_equal": _alike(first[0], first[1])}
    return found


def _alike(one: list[int], other: list[int]) -> int:
    return sum(a == b for a, b in zip(one, other, strict=True))


def _delivered(probe: Probe, seen: LoaderSeen) -> dict[str, int]:
    """Samples that came in two passes of the loop itself, as it got them. For loops that take one batch a step."""
    recorded = probe.feed.by_loader.get(id(seen), [])
    starts = [start for start in probe.feed.epoch_starts if start]
    if len(seen.passes) < 2 or not starts or len(recorded) != probe.observed:
        return {}
    ends = [*starts, len(recorded)]
    passes = [_rows(recorded[: ends[0]], seen.passes[0]), _rows(recorded[ends[0] : ends[1]], seen.passes[1])]
    common = [index for index in passes[0] if index in passes[1]][:DELIVERED]
    return {
        "delivered_items": len(common),
        "delivered_equal": sum(passes[0][index] == passes[1][index] for index in common),
    }


def _rows(recorded: list[Any], order: list[Any]) -> dict[Any, bytes]:
    """Index -> content of its row in the first tensor of its batch; what is drawn twice in a pass is left out."""
    found: dict[Any, bytes] = {}
    twice: set[Any] = set()
    for fetched, indices in zip(recorded, order, strict=False):
        first = next((tensor for tensor in tensors(fetched.batch) if tensor.dim() > 0), None)
        if first is None or not isinstance(indices, list) or first.shape[0] != len(indices):
            continue
        for index, row in zip(indices, first, strict=True):
            if index in found:
                twice.add(index)
            found[index] = content(row) or b""
    return {index: row for index, row in found.items() if index not in twice}
