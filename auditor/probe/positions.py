"""Outputs of sequence models, one row a position, and how far they move."""

from __future__ import annotations

import torch


def by_position(
    outputs: list[torch.Tensor], ids: torch.Tensor, axis: int, classes: int, window: tuple[int, int] | None = None
) -> torch.Tensor | None:
    """The output with one row a token, as (batch, length, values): logits before anything else. `window`: (first,
    number) of the rows, where there are more of them, and those from the first on belong to the tokens."""
    if window is not None and window[1] > ids.shape[axis]:
        outputs = [_narrowed(output, ids, axis, *window) for output in outputs]
    rows, length = (ids.shape[0], ids.shape[1]) if axis == 1 else (ids.shape[1], ids.shape[0])
    shaped: list[torch.Tensor] = []
    for output in outputs:
        if output.dim() == 3 and output.shape[:2] == ids.shape:
            shaped.append(output)
        elif output.dim() == 3 and tuple(output.shape) == (rows, classes, length):
            shaped.append(output.transpose(1, 2) if axis == 1 else output.permute(2, 0, 1))
        elif output.dim() == 2 and output.shape[0] == ids.numel():
            shaped.append(output.reshape(*ids.shape, -1))
    logits = [output for output in shaped if output.shape[-1] == classes] or shaped
    if not logits:
        return None
    return logits[0] if axis == 1 else logits[0].transpose(0, 1)


def _narrowed(output: torch.Tensor, ids: torch.Tensor, axis: int, first: int, number: int) -> torch.Tensor:
    wanted = [*ids.shape]
    wanted[axis] = number
    fits = output.dim() == 3 and list(output.shape[:2]) == wanted
    return output.narrow(axis, first, ids.shape[axis]) if fits else output


def movement(before: torch.Tensor | None, after: torch.Tensor | None) -> torch.Tensor | None:
    """(batch, length) largest change at each position, relative to the size of the outputs."""
    if before is None or after is None or before.shape != after.shape:
        return None
    scale = max(float(before.double().nan_to_num(0.0, 0.0, 0.0).square().mean().sqrt()), 1e-12)
    apart = (after.double() - before.double()).abs().nan_to_num(0.0, 0.0, 0.0)
    return apart.reshape(*before.shape[:2], -1).amax(-1) / scale


def largest_of(moved: torch.Tensor | None) -> float:
    return float(moved.max()) if moved is not None else 0.0
