"""A loss scale of ours: what torch's GradScaler does for half precision, as an intervention in a replay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def loss_scaled(scale: float, roots: tuple[torch.Tensor, ...], parameters: list[torch.Tensor]) -> Iterator[None]:
    """Inside, a backward of `roots` runs on `scale` times them. Gradients that lie there already are scaled too, so
    that what a loop accumulates keeps one scale; all are divided again at the end.

    A power of two changes no digit of a gradient, only whether half precision can represent it.
    """
    if scale == 1:
        yield
        return
    scaled: list[Any] = [root for root in roots if root.requires_grad]
    handles = [root.register_hook(lambda gradient: gradient * scale) for root in scaled]
    try:
        _multiply(parameters, scale)
        yield
    finally:
        for handle in handles:
            handle.remove()
        _multiply(parameters, 1 / scale)


def _multiply(parameters: list[torch.Tensor], factor: float) -> None:
    with torch.no_grad():
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
