"""Pairs of samples for the eye: as small pictures, else as a few of their values (rows, series, tokens, texts)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from auditor.evidence import Row
from auditor.probe.batches import tensors
from auditor.probe.samples import Samples
from auditor.probe.thumbnails import thumbnail

MOST = 10  # values
LONGEST_TEXT = 120  # characters
_LARGEST = 10**7  # values; nobody compares such samples by eye


def shown(train: Samples, a: int, held: Samples, b: int) -> dict[str, Any]:
    """Two samples for the eye: as pictures, else as rows of some of their values."""
    pictures = {"thumbnail": _made(thumbnail, train, a), "held_out_thumbnail": _made(thumbnail, held, b)}
    found = {name: picture for name, picture in pictures.items() if picture}
    return found or {"row": _made(row, train, a), "held_out_row": _made(row, held, b)}


def _made(make: Callable[[Any], Any], samples: Samples, position: int) -> Any:
    try:
        return make(samples.sample(position))
    except Exception:  # seeing them is a courtesy: the user's code behind a sample may do anything
        return None


def row(sample: Any) -> Row | None:
    """At most ten of its numbers, spread over all of it, or the beginning of its text; None for anything else."""
    if isinstance(sample, Mapping):
        text = next((value for value in sample.values() if isinstance(value, str)), None)
        sample = text if text is not None and not any(True for _ in tensors(sample)) else sample
    if isinstance(sample, tuple | list) and sample and isinstance(sample[0], str):
        sample = sample[0]
    if isinstance(sample, str):
        return Row(values=(sample[:LONGEST_TEXT],), size=len(sample))
    flat = _numbers(sample)
    if flat is None or not 0 < flat.numel() <= _LARGEST:
        return None
    places = _places(flat.numel())
    return Row(values=tuple(_text(flat[place].item()) for place in places), places=tuple(places), size=flat.numel())


def _numbers(sample: Any) -> torch.Tensor | None:
    """The largest of its tensors, flat."""
    found = list(tensors(sample))
    if not found:
        try:
            found = [torch.as_tensor(sample)]
        except (TypeError, ValueError, RuntimeError):
            return None
    largest = max(found, key=lambda tensor: tensor.numel())
    return None if largest.is_complex() else largest.detach().flatten()


def _places(count: int) -> list[int]:
    if count <= MOST:
        return list(range(count))
    return [round(place * (count - 1) / (MOST - 1)) for place in range(MOST)]


def _text(value: float | int | bool) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
