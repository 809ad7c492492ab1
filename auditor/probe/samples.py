"""Reads what a dataset holds and hashes each whole sample, before random augmentation.

Ways, best first: positions in one underlying dataset (Subset), arrays that lie ready (TensorDataset, `.data`), files
(ImageFolder's `.samples`), and, for everything else, the items themselves. Items that differ from one reading to the
next are random augmentation: then the transforms are taken off for the reading, and put back.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch.utils.data import ConcatDataset, IterableDataset, TensorDataset

from auditor.probe.batches import tensors
from auditor.probe.parts.program import length
from auditor.probe.randomness import reseed

MOST_ITEMS = 200_000
TRANSFORMS = ("transform", "transforms", "augment", "augmentation", "augmentations", "aug")
LABELS = ("targets", "labels", "y", "target", "label")


class Unreadable(Exception):
    """The dataset cannot be read sample by sample; the text says why."""


@dataclass
class Samples:
    """Hashes by position in the dataset as the loader sees it."""

    total: int
    method: str = "items"
    hashes: dict[int, bytes] = field(default_factory=dict)
    base: Any = None  # the underlying dataset, for positions in it
    base_indices: dict[int, int] = field(default_factory=dict)
    trivial: int = 0
    values: int = 0
    complete: bool = True
    unreadable: str = ""  # why the contents could not be read, though the positions are known
    sample: Callable[[int], Any] = lambda position: None
    label: Callable[[int], str] = lambda position: ""


def read_samples(dataset: Any, part: list[int] | None, until: float) -> Samples:
    """Read as many samples as the time allows. `part`: the positions that the loader's sampler is restricted to.

    Raises Unreadable where not even positions can be told.
    """
    whole = length(dataset)
    total = len(part) if part is not None else whole
    if isinstance(dataset, IterableDataset) or total is None:
        raise Unreadable(f"{type(dataset).__name__} is an iterable dataset: its samples cannot be asked for by index")
    base, indices = unwrap(dataset)
    samples = Samples(total=total, base=base)
    places = part if part is not None else range(total)
    samples.base_indices = {
        position: int(indices[place]) if indices is not None else place for position, place in enumerate(places)
    }
    array, labels = _arrays(base)
    if array is None and not _repeats(dataset):
        array, labels = _stored(base)
    if array is not None:
        samples.method = "arrays"
        stored = array
        read_one: Callable[[int], Any] = lambda position: stored[samples.base_indices[position]]  # noqa: E731
    elif (files := _files(base)) is not None:
        samples.method = "files"
        paths, labels = files
        read_one = lambda position: Path(paths[samples.base_indices[position]])  # noqa: E731
    else:
        read_item = item_reader(dataset)
        read_one = lambda position: read_item(places[position])  # noqa: E731
        samples.label = lambda position: item_label(dataset, places[position])
    if labels is not None:
        known = labels
        samples.label = lambda position: _text(known[samples.base_indices[position]])
    samples.sample = lambda position: _picture(read_one(position))
    try:
        with _without_random_transforms(dataset, samples):
            _hash_all(samples, read_one, until)
    except Unreadable as why:
        samples.unreadable, samples.complete = str(why), False
        samples.hashes = {}
    return samples


def unwrap(dataset: Any) -> tuple[Any, list[int] | None]:
    """Follow `.dataset`/`.indices` down to the dataset that holds the samples."""
    indices: list[int] | None = None
    for _ in range(16):
        inner, chosen = getattr(dataset, "dataset", None), getattr(dataset, "indices", None)
        if inner is None or isinstance(dataset, torch.utils.data.DataLoader):
            break
        if chosen is None:
            if length(inner) != length(dataset):
                break  # an unknown selection: only the items themselves tell
            dataset = inner
            continue
        chosen = [int(index) for index in chosen]
        indices = chosen if indices is None else [chosen[index] for index in indices]
        dataset = inner
    return dataset, indices


def _arrays(base: Any) -> tuple[Any, Any]:
    """(samples, labels) of a dataset that holds them in arrays of its own length."""
    if isinstance(base, TensorDataset):
        return base.tensors[0], base.tensors[1] if len(base.tensors) > 1 else None
    total = length(base)
    data = getattr(base, "data", None)
    if data is not None and hasattr(data, "shape") and len(data.shape) >= 2 and len(data) == total:
        return data, _labels_of(base, total)
    return None, None


def _labels_of(base: Any, total: int | None) -> Any:
    for name in LABELS:
        labels = getattr(base, name, None)
        if labels is not None and length(labels) == total:
            return labels
    return None


def _stored(base: Any) -> tuple[Any, Any]:
    """The largest array that a dataset of unknown kind keeps with one entry a sample: what it holds before its
    __getitem__ changes it at random."""
    total = length(base)
    best: tuple[int, Any] = (0, None)
    for value in vars(base).values() if hasattr(base, "__dict__") else ():
        if hasattr(value, "shape") and len(value.shape) >= 2 and len(value) == total:
            size = 1
            for side in value.shape[1:]:
                size *= int(side)
            best = max(best, (size, value), key=lambda pair: pair[0])
    return (best[1], _labels_of(base, total)) if best[1] is not None else (None, None)


def _files(base: Any) -> tuple[list[str], Any] | None:
    """(paths, labels) of a dataset that keeps a list of files, as ImageFolder does in `samples`."""
    total = length(base)
    for value in vars(base).values() if hasattr(base, "__dict__") else ():
        if not isinstance(value, list | tuple) or len(value) != total or not value:
            continue
        first = value[0]
        if isinstance(first, tuple) and len(first) == 2 and isinstance(first[0], str) and Path(first[0]).is_file():
            return [entry[0] for entry in value], [entry[1] for entry in value]
        if isinstance(first, str | Path) and Path(first).is_file():
            return [str(entry) for entry in value], _labels_of(base, total)
    return None


def item_reader(dataset: Any) -> Callable[[int], Any]:
    def read(position: int) -> Any:
        item = dataset[position]
        if isinstance(item, tuple | list) and item and not isinstance(item[0], int | float | str):
            return item[0]
        if isinstance(item, Mapping):
            return {
                key: value for key, value in item.items() if str(key).lower() not in (*LABELS, "idx", "index", "id")
            }
        return item

    return read


def item_label(dataset: Any, position: int) -> str:
    """As text; '' where a sample has no label of one value."""
    item = dataset[position]
    if isinstance(item, tuple | list) and len(item) > 1:
        return _text(item[1])
    if isinstance(item, Mapping):
        return next((_text(item[key]) for key in LABELS if key in item), "")
    return ""


def _text(label: Any) -> str:
    if isinstance(label, torch.Tensor) and label.numel() == 1:
        label = label.item()
    if hasattr(label, "item") and getattr(label, "size", 2) == 1:
        label = label.item()
    return str(label)[:40] if isinstance(label, int | float | str) else ""


def _picture(value: Any) -> Any:
    if isinstance(value, Path):
        from PIL import Image

        return Image.open(value)
    return value


def content(value: Any) -> bytes | None:
    """All that a sample holds, label included; None for content that cannot be seen."""
    return _bytes(value)


def _bytes(value: Any) -> bytes | None:
    """The sample's whole content; None for content that cannot be seen."""
    if isinstance(value, Path):
        return value.read_bytes()
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        head = f"{tuple(value.shape)}".encode()
        return head + value.contiguous().flatten().view(torch.uint8).numpy().tobytes() if value.numel() else head
    if hasattr(value, "tobytes"):  # numpy arrays and PIL images
        return str(getattr(value, "shape", getattr(value, "size", ""))).encode() + bytes(value.tobytes())
    if isinstance(value, int | float | bool):
        return repr(value).encode()
    if isinstance(value, Mapping):
        value = [part for key in sorted(value, key=str) for part in (str(key), value[key])]
    if isinstance(value, list | tuple):
        parts = [_bytes(item) for item in value]
        return None if any(part is None for part in parts) else b"|".join(part for part in parts if part is not None)
    return None


def _is_trivial(value: Any) -> bool:
    """A sample of one single value (an empty image, padding) matches others without meaning anything."""
    found = list(tensors(value))
    if not found and hasattr(value, "tobytes") and hasattr(value, "shape"):
        with contextlib.suppress(TypeError, ValueError, RuntimeError):
            found = [torch.as_tensor(value)]
    return bool(found) and all(tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all()) for tensor in found)


def _values(value: Any) -> int:
    found = list(tensors(value))
    if found:
        return sum(tensor.numel() for tensor in found)
    return int(getattr(value, "size", 0)) if isinstance(getattr(value, "size", None), int) else 0


def _hash_all(samples: Samples, read_one: Callable[[int], Any], until: float) -> None:
    for position in range(min(samples.total, MOST_ITEMS)):
        if position % 64 == 0 and time.monotonic() > until:
            break
        try:
            value = read_one(position)
        except Exception as error:
            raise Unreadable(
                f"reading sample {position} of a dataset failed: {type(error).__name__}: {error}"
            ) from None
        content = _bytes(value)
        if content is None:
            raise Unreadable("the samples are objects whose content the probe cannot read")
        if position == 0:
            samples.values = _values(value)
        if _is_trivial(value):
            samples.trivial += 1
            continue
        samples.hashes[position] = xxhash.xxh3_128_digest(content)
    samples.complete = len(samples.hashes) + samples.trivial >= samples.total


@contextlib.contextmanager
def _without_random_transforms(dataset: Any, samples: Samples) -> Iterator[None]:
    """For samples read as items: take random transforms off. Raises Unreadable where they stay random."""
    if samples.method != "items" or _repeats(dataset):
        yield
        return
    layers, current = [], dataset
    for _ in range(16):
        layers.append(current)
        current = getattr(current, "dataset", None)
        if current is None:
            break
    if isinstance(dataset, ConcatDataset):
        layers.extend(dataset.datasets)
    taken: list[tuple[Any, str, Any]] = []
    try:
        for layer in layers:
            for name in TRANSFORMS:
                if getattr(layer, name, None) is not None and callable(getattr(layer, name)) and name in vars(layer):
                    taken.append((layer, name, getattr(layer, name)))
                    setattr(layer, name, None)
        if not taken or not _repeats(dataset):
            raise Unreadable(
                f"{type(dataset).__name__} gives a different sample each time it is asked for the same index, and its "
                "random part cannot be switched off from outside"
            )
        yield
    finally:
        for layer, name, value in taken:
            setattr(layer, name, value)


def _repeats(dataset: Any) -> bool:
    """True when the first items are the same under other random numbers."""
    total = length(dataset) or 0
    read = item_reader(dataset)
    for position in range(min(3, total)):
        contents = []
        for seed in (1, 2):
            reseed(seed)
            try:
                contents.append(_bytes(read(position)))
            except Exception:
                return False
        if contents[0] != contents[1]:
            return False
    return True
