"""Small descriptors of samples: images brought to one small size and standardized, vectors of numbers as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as functional

from auditor.probe.batches import tensors

SIDE = 12  # pixels
FEWEST_NUMBERS = 16  # of a vector
MOST_NUMBERS = 4096


class Undescribable(Exception):
    """Distances between samples of this kind mean nothing here; the text says why."""


def describe(sample: Any) -> tuple[Literal["image", "vector"], torch.Tensor] | None:
    """(kind, 1-d float tensor); None for a sample without contrast. Raises Undescribable for kinds of data whose
    distances say nothing: tokens, text, a few numbers."""
    values = values_of(sample)
    if values is None or not values.numel():
        raise Undescribable("the samples are no images and no vectors of numbers")
    picture = _picture(values)
    if picture is not None:
        grey = functional.adaptive_avg_pool2d(picture[None, None], (SIDE, SIDE)).flatten()
        grey = grey - grey.mean()
        size = float(grey.norm())
        return ("image", grey / size) if size > 1e-6 else None
    if values.dtype.is_floating_point and FEWEST_NUMBERS <= values.numel() <= MOST_NUMBERS:
        flat = values.flatten().float()
        if len(set(flat.tolist())) < FEWEST_NUMBERS // 2:
            raise Undescribable("the samples hold few different values, as discrete tables do, and are alike by chance")
        return "vector", flat
    raise Undescribable(
        "the samples are tokens, or too few numbers each, for their distances to tell near-duplicates from chance"
    )


def values_of(sample: Any) -> torch.Tensor | None:
    """The largest of its tensors, or of what may become one."""
    if isinstance(sample, Mapping):
        sample = list(sample.values())
    found = [tensor for tensor in tensors(sample) if tensor.layout == torch.strided]
    if not found and hasattr(sample, "convert"):  # an image of Pillow
        grey = sample.convert("L")
        found = [torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.uint8).reshape(grey.height, grey.width)]
    if not found:
        parts = sample if isinstance(sample, tuple | list) else [sample]
        found = [torch.as_tensor(part) for part in parts if hasattr(part, "shape") and hasattr(part, "dtype")]
    return max(found, key=lambda tensor: tensor.numel(), default=None) if found else None


def _picture(values: torch.Tensor) -> torch.Tensor | None:
    """(height, width) for what looks like an image: two sides of at least 8, perhaps channels first or last."""
    shape = values.shape
    if values.dim() == 3 and shape[0] <= 4 and min(shape[1:]) >= 8:
        return values.float().mean(0)
    if values.dim() == 3 and shape[2] <= 4 and min(shape[:2]) >= 8:
        return values.float().mean(2)
    if values.dim() == 2 and min(shape) >= 8:
        return values.float()
    return None
