"""Where a change of later positions first reaches earlier ones, layer by layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from auditor.probe.batches import tensors
from auditor.probe.examination import Examination
from auditor.probe.positions import movement

Outputs = list[tuple[nn.Module, torch.Tensor]]


def outputs_of_layers(examination: Examination, shape: torch.Size) -> Outputs:
    """What each module gives with one row a position, (*shape, values), in the order in which they end."""
    found: Outputs = []

    def note(module: nn.Module, args: Any, result: Any) -> None:
        first = next(tensors(result), None)
        if first is None or first.dim() < 3 or first.shape[:2] != shape or not first.is_floating_point():
            return
        found.append((module, first.detach().clone()))

    handles = [module.register_forward_hook(note) for module in examination.module.modules()]
    try:
        examination.outputs()
    finally:
        for handle in handles:
            handle.remove()
    return found


def first_moved(
    model: nn.Module, was: Outputs, now: Outputs, *, axis: int, before: int, noise: float
) -> nn.Module | None:
    """The first module of which a position `before` the change has moved by more than the noise. `axis`: of the
    positions."""
    for (module, old), (same, new) in zip(was, now, strict=False):
        if module is not same or old.shape != new.shape:
            return None
        moved = movement(*(t if axis == 1 else t.transpose(0, 1) for t in (old, new)))
        if moved is not None and float(moved[:, :before].max()) > noise:
            return _owner(model, module)
    return None


def _owner(model: nn.Module, module: nn.Module) -> nn.Module:
    """The module that calls it, for a plain layer that only passes on what it was given."""
    if not isinstance(module, nn.Linear | nn.Dropout | nn.Identity | nn.LayerNorm):
        return module
    parents = (parent for parent in model.modules() if any(child is module for child in parent.children()))
    return next(parents, module)
