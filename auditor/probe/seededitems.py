"""Augmentation that a dataset seeds itself, anew for every sample: the same variation of it in every epoch.

Where a dataset draws its samples whole from such a seed, that is no augmentation. So another seed is put in the place
of the dataset's own, and only what goes on from there to another variation of the same sample counts. A dataset that
keeps the number of the epoch has that changed as well: where its samples follow it, it varies them.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import torch

from auditor.probe.samples import TRANSFORMS, content

OTHER = 7_919  # added to every seed
LATER = (1, 3, 1_000)  # added to the number of the epoch


def declares_augmentation(dataset: Any) -> bool:
    """It keeps a switch or a transform by one of the usual names, or the number of the epoch, and one stored sample for
    each index; and nothing else of an epoch, which its seeds could depend on."""
    try:
        own, total = vars(dataset), len(dataset)
    except TypeError:
        return False
    switched = any(name.lstrip("_") in TRANSFORMS and _is_on(value) for name, value in own.items())
    kept = [value for value in own.values() if isinstance(value, list | tuple) or hasattr(value, "shape")]
    stored = any(len(value) == total for value in kept if getattr(value, "shape", (1,)))
    epochs = [value for name, value in own.items() if "epoch" in name]
    known = all(isinstance(value, int) for value in epochs) and (bool(epochs) or not hasattr(dataset, "set_epoch"))
    return (switched or bool(epochs)) and stored and known


def seeded_items(dataset: Any, places: list[Any], until: Callable[[], bool]) -> int:
    """Samples that come out otherwise, and still as the same ones, when the seeds that are set while they are read are
    others. To be called for samples that come out alike each time. 0 where the number of the epoch varies them."""
    found = 0
    for place in places:
        if until():
            break
        before = dataset[place]
        if _follows_epoch(dataset, place, before):
            return 0
        with _other_seeds() as seeds:
            after = dataset[place]
        found += bool(seeds) and _varied(before, after)
    return found


def _is_on(value: Any) -> bool:
    return value is True or callable(value)


def _follows_epoch(dataset: Any, place: Any, before: Any) -> bool:
    kept = {name: value for name, value in vars(dataset).items() if "epoch" in name}
    try:
        for later in LATER if kept else ():
            for name, value in kept.items():
                setattr(dataset, name, value + later)
            if content(dataset[place]) != content(before):
                return True
    finally:
        for name, value in kept.items():
            setattr(dataset, name, value)
    return False


def _varied(before: Any, after: Any) -> bool:
    """What comes first, the input, has changed, and its label has not."""
    if not isinstance(before, list | tuple) or not isinstance(after, list | tuple) or len(before) < 2:
        return False
    (one, *labels), (other, *same) = before, after
    known = content(one), content(other)
    return None not in known and known[0] != known[1] and list(map(content, labels)) == list(map(content, same))


@contextmanager
def _other_seeds() -> Iterator[list[str]]:
    """Inside, every explicit seed is another one; yields the names of the functions that were given one."""
    given: list[str] = []
    owners: list[tuple[Any, str]] = [(random, "seed"), (random, "Random"), (torch, "manual_seed"), (torch, "Generator")]
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        owners += [(numpy, name) for name in ("default_rng", "RandomState", "seed")]
    kept = [(owner, name, getattr(owner, name)) for owner, name in owners]
    try:
        for owner, name, original in kept:
            setattr(owner, name, _other(name, original, given))
        yield given
    finally:
        for owner, name, original in kept:
            setattr(owner, name, original)


def _changed(name: str, seed: Any, given: list[str]) -> Any:
    """Another seed in the place of an explicit one."""
    if isinstance(seed, Integral):
        given.append(name)
        return int(seed) + OTHER
    if isinstance(seed, list | tuple) and seed:
        given.append(name)
        return [*seed, OTHER]
    return seed


def _other(name: str, original: Any, given: list[str]) -> Any:
    """Of a function, or of a class of generators: one that others test for stays a class."""
    if name == "Generator":

        class Generator(torch.Generator):
            def manual_seed(self, seed: int) -> torch.Generator:
                return super().manual_seed(_changed(name, seed, given))

        return Generator
    if isinstance(original, type):

        def init(self: Any, seed: Any = None, *args: Any) -> None:
            original.__init__(self, _changed(name, seed, given), *args)  # type: ignore[misc]

        return type(name, (original,), {"__init__": init})

    def seeded(seed: Any = None, *args: Any, **kwargs: Any) -> Any:
        return original(_changed(name, seed, given), *args, **kwargs)

    return seeded
