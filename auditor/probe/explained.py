"""How much of what its targets differ in a loss has been told: 0 for the best constant answer, 1 for the exact one."""

from __future__ import annotations

import torch

from auditor.probe.losscall import LossCall

FEWEST_ROWS, FEWEST_VALUES = 8, 4  # samples of a batch, numbers of one of them


def explained(call: LossCall) -> torch.Tensor | None:
    """Of a call that compares several numbers of each sample with the data: squares, or cross entropies of numbers
    between 0 and 1. The constant answer is the mean over the batch, of each number. None for any other call."""
    given, target = call.input.detach(), call.target.detach()
    if given.shape != target.shape or target.dim() < 2 or not target.is_floating_point():
        return None
    if target.shape[0] < FEWEST_ROWS or target[0].numel() < FEWEST_VALUES or call.options.get("weight") is not None:
        return None
    given, target = given.float().flatten(1), target.float().flatten(1)
    mean = target.mean(0, keepdim=True)
    if call.name == "mse_loss":
        loss, level, floor = (given - target).square(), (mean - target).square(), torch.zeros_like(target)
    elif call.binary_labels and call.options.get("pos_weight") is None:
        share = given.sigmoid() if call.name.endswith("logits") else given
        loss, level, floor = (_cross(each, target) for each in (share, mean, target))
    else:
        return None
    apart = level.mean() - floor.mean()
    return torch.where(apart > 1e-6, (level.mean() - loss.mean()) / apart, torch.full_like(apart, torch.nan))


def _cross(share: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    share = share.clamp(1e-7, 1 - 1e-7)
    return -(target * share.log() + (1 - target) * (1 - share).log())
