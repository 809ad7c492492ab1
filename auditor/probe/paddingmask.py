"""A mask that marks the padding in a stream of tokens."""

from __future__ import annotations

from typing import NamedTuple

import torch


class PaddingMask(NamedTuple):
    """A mask of the padding in one stream."""

    pad: int
    run: torch.Tensor  # padded positions
    axis: int  # of the length
    owner: str  # who was given it, or made it
    made: bool = False


def is_behind(mask: PaddingMask) -> bool:
    """No row begins with padding: a layer that only reads forward does not see it from any real position."""
    return not bool(mask.run.select(mask.axis, 0).any())
