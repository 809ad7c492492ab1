"""Images that are mirrored while the numbers that tell where something is in them stay as they were: a box, keypoints,
a steering angle.

That an image was mirrored and its target was not, two draws of one sample show. It is a fault only where the target
knows left from right. That can be told without knowing which of the draws are the mirrored ones: mirroring changes the
sign of an image's asymmetry and not its size. A target that knows sides has a middle at which images are symmetric, and
the further a sample's value is from there, to either side, the larger is the asymmetry. A size, an age or a brightness
goes with it in one direction at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch

from auditor.evidence import Unmirrored

AXES = {-1: "left to right", -2: "upside down"}
SMALLEST = 8  # side of an image
LARGEST = 2**20  # elements of one
MOST_VALUES = 64  # of all targets of a sample
FEWEST_DISTINCT = 30  # values of a target: fewer are classes, whose order may mean nothing
SAME = 0.99  # correlation of two draws from which one is the other, but for brightness, contrast and rounding
OTHER = 0.9  # and of such that are not
PAIRS = 3  # of draws, from which it is worth looking at more samples
SAMPLES = 256


@dataclass
class _Sample:
    image: torch.Tensor
    rest: list[torch.Tensor]


class Mirrors:
    """Draws of the same samples, one after the other."""

    def __init__(self) -> None:
        self._pairs = dict.fromkeys(AXES, 0)
        self._moved = dict.fromkeys(AXES, False)  # something else of the sample changed with it

    def add(self, items: list[Any]) -> None:
        """Several draws of one sample."""
        known = [each for each in map(_sample, items) if each is not None]
        for one, other in combinations(known, 2):
            axis = _mirrored(one.image, other.image)
            if axis is None:
                continue
            self._pairs[axis] += 1
            self._moved[axis] = self._moved[axis] or not _alike(one.rest, other.rest)

    def axes(self) -> list[int]:
        """Along which images are mirrored, and nothing beside them ever changes."""
        return [axis for axis in AXES if self._pairs[axis] >= PAIRS and not self._moved[axis]]

    def unmirrored(self, items: list[Any]) -> Unmirrored | None:
        """Given one draw each of many samples: the target value that most knows sides."""
        known = [each for each in map(_sample, items) if each is not None]
        values = _values(known)
        if values is None:
            return None
        best: Unmirrored | None = None
        for axis in self.axes():
            sizes = torch.stack([_asymmetries(each.image, axis) for each in known]).abs()
            for place in range(values.shape[1]):
                found = _both_sides(values[:, place], sizes)
                if found is not None and (best is None or found[1] > best.correlation):
                    samples, correlation = found
                    best = Unmirrored(
                        pairs=self._pairs[axis],
                        direction=AXES[axis],
                        value=place,
                        samples=samples,
                        correlation=correlation,
                    )
        return best


def _sample(item: Any) -> _Sample | None:
    """None unless there is exactly one image in it."""
    leaves = _leaves(item)
    large = [leaf for leaf in leaves if leaf.dim() >= 2 and min(leaf.shape[-2:]) >= SMALLEST]
    if len(large) != 1 or large[0].is_complex() or large[0].numel() > LARGEST:
        return None
    return _Sample(large[0], [leaf for leaf in leaves if leaf is not large[0]])


def _leaves(item: Any, depth: int = 0) -> list[torch.Tensor]:
    """Tensors, arrays and numbers, as tensors."""
    if isinstance(item, torch.Tensor):
        return [item.detach().cpu()] if item.layout == torch.strided else []
    if isinstance(item, int | float):
        return [torch.tensor(item, dtype=torch.float64 if isinstance(item, float) else torch.long)]
    if hasattr(item, "__array__") and getattr(getattr(item, "dtype", None), "kind", "") in "biuf":
        return [torch.as_tensor(item)]
    parts = item.values() if isinstance(item, Mapping) else item if isinstance(item, tuple | list) else ()
    return [leaf for part in parts for leaf in _leaves(part, depth + 1)] if depth < 4 else []


def _alike(ones: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return len(ones) == len(others) and all(torch.equal(one, other) for one, other in zip(ones, others, strict=True))


def _mirrored(image: torch.Tensor, other: torch.Tensor) -> int | None:
    if image.shape != other.shape or _correlation(image, other) > OTHER:
        return None
    return next((axis for axis in AXES if _correlation(image.flip(axis), other) > SAME), None)


def _correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    left, right = (each.double().flatten() - each.double().mean() for each in (one, other))
    norm = float(left.norm() * right.norm())
    return float(left @ right) / norm if norm > 0 else 1.0


def _values(known: list[_Sample]) -> torch.Tensor | None:
    """(samples, values) of the continuous targets; None where samples differ in what they hold."""
    rows = [[leaf.double().flatten() for leaf in each.rest if leaf.is_floating_point()] for each in known]
    flat = [torch.cat(row) for row in rows if row]
    if not flat or len(flat) < len(known) or len({each.shape for each in flat}) != 1:
        return None
    table = torch.stack(flat)
    return table if table.shape[1] <= MOST_VALUES and bool(torch.isfinite(table).all()) else None


def _asymmetries(image: torch.Tensor, axis: int) -> torch.Tensor:
    """(3,) how far to one side lies what stands out: the mean, the squares, the extremes of each column."""
    columns = image.double().movedim(axis, -1).reshape(-1, image.shape[axis])
    columns = columns - columns.median()
    profiles = torch.stack([columns.mean(0), columns.square().mean(0), columns.abs().amax(0)])
    profiles = profiles - profiles.mean(1, keepdim=True)
    places = torch.linspace(-1, 1, image.shape[axis], dtype=torch.float64)
    return (profiles @ places) / profiles.abs().sum(1).clamp(min=1e-12)


def _both_sides(values: torch.Tensor, sizes: torch.Tensor) -> tuple[int, float] | None:
    """(samples on the side with fewer, the lower of the two rank correlations) of the distance from the median with the
    size of the asymmetry. Two of its three measures have to say so: a contrast that vanishes in the middle of the range
    of an age, under light from one side, makes one of them do the same."""
    if len(set(values.tolist())) < FEWEST_DISTINCT:
        return None
    distance = values - values.median()
    sides = [distance >= 0, distance <= 0]
    agree = sorted(min(_ranks_agree(distance[side].abs(), size[side]) for side in sides) for size in sizes.T)
    return min(int(side.sum()) for side in sides), agree[-2]


def _ranks_agree(one: torch.Tensor, other: torch.Tensor) -> float:
    return _correlation(one.argsort().argsort(), other.argsort().argsort()) if len(one) > 2 else 0.0
