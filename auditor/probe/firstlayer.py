"""What a model's first layer receives, where the model prepares its input itself: centres it, scales it."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import nn

LARGEST = 2**20  # elements of one batch: what is worked out takes several times their memory


class FirstLayerInput:
    """Statistics of the columns of a table as they enter the first layer, over some forwards.

    Only of a preparation element by element that learns nothing: the same shape, and no gradient goes back.
    """

    def __init__(self, probe: Any) -> None:
        self._probe = probe
        self._hook: Any = None
        self._given: torch.Tensor | None = None
        self.layer: nn.Module | None = None
        self._sums: torch.Tensor | None = None  # (3, columns): count, sum, sum of squares
        self._apart: list[torch.Tensor] = []  # 0-d: largest difference from what the model was called with
        self._rows = 0

    def listen(self, layer: nn.Module | None, given: torch.Tensor) -> None:
        """To the next call of the layer."""
        self.end()
        if layer is None or isinstance(layer, torch.jit.ScriptModule) or given.dim() != 2:
            return
        if given.numel() > LARGEST:
            return
        self.layer, self._given = layer, given.detach()
        self._hook = layer.register_forward_pre_hook(self._enters)

    def end(self) -> None:
        if self._hook is not None:
            self._hook.remove()
        self._hook = self._given = None

    def _enters(self, layer: nn.Module, args: tuple[Any, ...]) -> None:
        given = self._given
        self.end()
        with contextlib.suppress(Exception), self._probe.paused(), torch.no_grad():  # the user's forward goes on
            if given is not None and args and isinstance(args[0], torch.Tensor) and not args[0].requires_grad:
                self._add(args[0].detach(), given)

    def _add(self, entering: torch.Tensor, given: torch.Tensor) -> None:
        untouched = entering.data_ptr() == given.data_ptr()
        if untouched or entering.shape != given.shape or not entering.is_floating_point():
            return
        values = entering.double()
        count = torch.full_like(values[0], float(len(values)))
        sums = torch.stack([count, values.sum(0), values.square().sum(0)])
        self._sums = sums if self._sums is None else self._sums + sums
        self._apart.append((values - given.double()).abs().amax())
        self._rows += len(values)

    def moments(self, rows: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """(columns,) mean and standard deviation, on the host; None where the layer received what the model was called
        with, or not all of its `rows`. Fetches."""
        if self._sums is None or self._rows != rows or not float(torch.stack(self._apart).max()) > 0:
            return None
        count, total, squares = self._sums.cpu()
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=0)
        variance = torch.where(variance > 1e-12 * mean.square(), variance, torch.zeros_like(variance))
        return (mean, variance.sqrt()) if bool(torch.isfinite(squares).all()) else None
