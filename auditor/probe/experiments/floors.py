"""The lowest loss that a pinned batch allows, where that is known exactly."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch

from auditor.probe.batches import tensors

if TYPE_CHECKING:
    from auditor.probe.losscall import LossCall


def floor_of_call(call: LossCall) -> tuple[float | None, str]:
    """(floor, reason) for one loss call with exact predictions; None where it is not known. One synchronisation."""
    if call.reduction != "mean":
        return None, f"reduction '{call.reduction}'"
    if call.class_labels:
        smoothing = float(call.options.get("label_smoothing", 0.0) or 0.0)
        return _smoothed_entropy(smoothing, call.classes), "label smoothing" if smoothing else ""
    if call.name == "cross_entropy" and call.target.is_floating_point():
        target = call.target.detach().double()
        entropy = -(target * target.clamp(min=1e-300).log()).sum(1).mean()
        return float(entropy), "soft targets" if float(entropy) > 1e-6 else ""
    if call.binary_labels and call.options.get("pos_weight") is None and call.options.get("weight") is None:
        target = call.target.detach().double()
        entropy = -(_xlogx(target) + _xlogx(1 - target)).mean()
        return float(entropy), "soft targets" if float(entropy) > 1e-6 else ""
    if call.name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "nll_loss"):
        return 0.0, ""
    return None, f"{call.name} has no known floor"


def _xlogx(value: torch.Tensor) -> torch.Tensor:
    return torch.where(value > 0, value * value.clamp(min=1e-300).log(), torch.zeros_like(value))


def _smoothed_entropy(smoothing: float, classes: int) -> float:
    """Cross entropy of the smoothed target with itself."""
    if smoothing <= 0 or classes < 2:
        return 0.0
    rest = smoothing / classes
    top = 1 - smoothing + rest
    return -(top * math.log(top) + (classes - 1) * rest * math.log(rest))


def contradictions(inputs: Any, labels: torch.Tensor, samples: int) -> float | None:
    """Entropy in nats that identical samples with different class labels force on any model; None if not one label a
    sample."""
    if labels.dim() != 1 or labels.is_floating_point():
        return None
    groups: dict[bytes, list[int]] = defaultdict(list)
    rows = min(samples, labels.shape[0])
    for row in range(rows):
        key = b"".join(
            tensor[row].detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
            for tensor in tensors(inputs)
            if tensor.dim() > 0
            and tensor.shape[0] > row
            and tensor.data_ptr() != labels.data_ptr()
            and not (tensor.shape == labels.shape and tensor.dtype == labels.dtype and torch.equal(tensor, labels))
        )
        groups[key].append(int(labels[row]))
    total = 0.0
    for found in groups.values():
        for label in set(found):
            share = found.count(label) / len(found)
            total -= found.count(label) * math.log(share)
    return total / max(1, rows)
