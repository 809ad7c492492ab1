"""Other tokens in the place of some, and by how much the outputs at each position change with them."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from auditor.probe.operations import short_name


class LossInputsHeard(TorchFunctionMode):
    """What losses inside the model are called with: models may return nothing but the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[torch.Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if short_name(func) in ("cross_entropy", "nll_loss") and not self.found and args:
            self.found.append(args[0].detach().clone())
        return func(*args, **(kwargs or {}))


def exchange(ids: torch.Tensor, inside: torch.Tensor, pad: int | None) -> torch.Tensor:
    """Other tokens that occur in the batch, never padding, at the positions `inside`."""
    known: torch.Tensor = ids.unique()  # type: ignore[no-untyped-call]
    known = known[known != pad] if pad is not None else known
    if known.numel() < 2:
        return ids
    places = torch.searchsorted(known, ids.contiguous()).clamp(max=known.numel() - 1)
    jump = torch.randint(1, known.numel(), ids.shape, generator=torch.Generator().manual_seed(0)).to(ids.device)
    return torch.where(inside, known[(places + jump) % known.numel()], ids)


def as_many(real: torch.Tensor, run: torch.Tensor, axis: int) -> torch.Tensor:
    """The first real positions of each row, as many of them as the row has padding (but one at least stays)."""
    count = run.sum(axis, keepdim=True)
    place = real.cumsum(axis)
    return real & (place <= count) & (place < real.sum(axis, keepdim=True))
