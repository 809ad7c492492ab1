"""Images and masks that are augmented by draws of their own: one of the two is flipped or turned without the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import torch

from auditor.probe.batches import tensors

LARGEST = 2**20  # elements of an image
Turn = Callable[[torch.Tensor], torch.Tensor]


def torn(items: list[Any]) -> tuple[int, int]:
    """(pairs of draws of one sample that differ by a flip or a turn, of these such in which only one of image and mask
    is flipped so)."""
    pairs = [pair for pair in map(_image_and_mask, items) if pair is not None]
    turned = alone = 0
    for (image, mask), (other, its) in combinations(pairs, 2):
        if image.shape != other.shape or mask.shape != its.shape:
            continue
        for turn in _turns(image):
            # What looks the same when it is turned tells nothing.
            if _equal(turn(image), image) or _equal(turn(mask), mask):
                continue
            image_turned, mask_turned = _equal(turn(image), other), _equal(turn(mask), its)
            if image_turned or mask_turned:
                turned += 1
                left = _equal(mask, its) if image_turned else _equal(image, other)
                alone += left and not (image_turned and mask_turned)
                break
    return turned, alone


def _image_and_mask(item: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The first two tensors of a sample, where the second has one value for each place of the first."""
    given = list(tensors(item))[:3]
    if len(given) != 2 or any(each.layout != torch.strided or each.dim() < 2 for each in given):
        return None
    image, mask = given
    fits = image.shape[-2:] == mask.shape[-2:] and min(image.shape[-2:]) > 2 and image.numel() <= LARGEST
    return (image, mask) if fits and _unlike(image, mask) else None


def _unlike(image: torch.Tensor, mask: torch.Tensor) -> bool:
    """Two of a kind may be two views of one image, which are augmented apart on purpose."""
    kinds = image.is_floating_point(), mask.is_floating_point()
    return image.shape != mask.shape or kinds[0] != kinds[1] or (_binary(mask) and not _binary(image))


def _binary(values: torch.Tensor) -> bool:
    return bool(((values == 0) | (values == values.max())).all())


def _turns(image: torch.Tensor) -> Iterator[Turn]:
    yield lambda each: each.flip(-1)
    yield lambda each: each.flip(-2)
    yield lambda each: each.flip(-1, -2)
    if image.shape[-1] == image.shape[-2]:
        yield lambda each: each.rot90(1, (-2, -1))
        yield lambda each: each.rot90(3, (-2, -1))
        yield lambda each: each.transpose(-1, -2)


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and bool(torch.equal(one, other))
