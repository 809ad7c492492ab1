"""Goes once through a stream, where the observed batches leave open how far its classes drift from start to end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from auditor.probe.parts.sample_order import composition
from auditor.probe.randomness import RandomState
from auditor.probe.samples import LABELS

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

SECONDS = 3.0
SHARE = 0.1  # of the time that is left, at most
MOST_SAMPLES = 50_000
PIECES = 48  # that a pass is cut into


def scan_stream(probe: Probe) -> None:
    """Send the part `sample_order` again, with the drift over a whole pass."""
    collector = probe.collectors.find("sample_order")
    found = collector.uneven_stream() if collector is not None else None
    if found is None:
        return
    part, dataset = found
    noise = RandomState.capture()
    with probe.paused():
        try:
            labels, whole = _labels(dataset, min(SECONDS, SHARE * (probe.spec.deadline - time.monotonic())))
        except Exception:  # a stream may do anything, and what was observed has been sent
            return
        finally:
            noise.restore()
    if whole and len(labels) >= PIECES:
        numbers = torch.tensor(labels)
        drift = composition(numbers, list(torch.split(numbers, len(labels) // PIECES))).get("drift", 0.0)
        probe.sink.part("sample_order", part.model_copy(update={"pass_drift": drift, "pass_samples": len(labels)}))


def _labels(dataset: Any, seconds: float) -> tuple[list[int], bool]:
    """The class labels in their order, and whether that was all."""
    until = time.monotonic() + seconds
    found: list[int] = []
    samples = iter(dataset)
    if samples is dataset:
        return found, False  # the loop is in the middle of it
    for item in itertools.islice(samples, MOST_SAMPLES):
        label = _label(item)
        found.extend(label)
        if time.monotonic() > until or not label:
            return found, False
    return found, len(found) < MOST_SAMPLES


def _label(item: Any) -> list[int]:
    """Of one sample, or of the samples of a batch."""
    if isinstance(item, Mapping):
        value = next((item[key] for key in LABELS if key in item), None)
    else:
        value = item[-1] if isinstance(item, tuple | list) and len(item) > 1 else None
    if value is None:
        return []
    values = torch.as_tensor(value).reshape(-1)
    whole = not values.is_floating_point() or bool((values == values.round()).all())
    return [int(each) for each in values.tolist()] if whole else []
