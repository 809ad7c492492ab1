"""What a loss call tells about the model's outputs. Everything stays on the device."""

from __future__ import annotations

import torch

from auditor.probe.losscall import LossCall


def accuracy(call: LossCall, class_weights: torch.Tensor | None = None) -> torch.Tensor | None:
    """0-d: share of class labels predicted right; None where the loss has no class labels. `class_weights`: what a
    sample of each class counts."""
    if call.class_labels:
        logits, labels = call.flat()
        counted = labels != call.ignore_index
        right = (logits.argmax(-1) == labels) & counted
        weights = counted.float() if class_weights is None else _of_samples(class_weights, labels) * counted
        return (right * weights).sum() / weights.sum().clamp(min=1e-12)
    if call.binary_labels and call.input.shape == call.target.shape:
        threshold = 0.0 if call.name.endswith("logits") else 0.5
        target = call.target.detach()
        hard = ((target == 0) | (target == 1)).all()
        right = ((call.input.detach() > threshold) == (target > 0.5)).float()
        weights = torch.ones_like(right) if class_weights is None else _of_samples(class_weights, target.long())
        share = (right * weights).sum() / weights.sum().clamp(min=1e-12)
        return torch.where(hard, share, torch.full_like(share, float("nan")))
    return None


def _of_samples(class_weights: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return class_weights.to(labels.device)[labels.clamp(min=0, max=class_weights.numel() - 1)]


def spread(call: LossCall) -> torch.Tensor | None:
    """0-d: standard deviation of the outputs over the samples, relative to their size; 0: the same for all."""
    output = call.input.detach().float()
    if output.dim() == 0 or output.shape[0] < 2:
        return None
    rows = output.reshape(output.shape[0], -1)
    return rows.std(dim=0).mean() / rows.abs().mean().clamp(min=1e-12)
