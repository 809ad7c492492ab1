"""One floating-point tensor that a model is called with: its statistics along the axis that its layers mix."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from auditor.evidence import Channel

MOST_CHANNELS = 2**16
BLOCK = 2**21  # elements looked at together: what is worked out on the way takes several times their memory
SHOWN = 64
SAMPLE = 2**14  # values of one image channel, to see whether they come from 8 bits


def axis_of(tensor: torch.Tensor, module: nn.Module | None = None) -> int | None:
    """The channel axis: features of (N, F), channels of (N, C, H, W) and (N, C, D, H, W); none for very many features,
    whose statistics would take as much memory. Of a sequence, the axis that has the size that the first fitting layer
    of the module takes: the last one of (N, T, F) for a linear or recurrent layer, the middle one for a convolution, or
    the last one where only that fits and the model must have swapped them."""
    axis = _sequence_axis(tensor, module) if tensor.dim() == 3 else 1 if tensor.dim() in (2, 4, 5) else None
    return axis if axis is not None and tensor.shape[axis] <= MOST_CHANNELS else None


def _sequence_axis(tensor: torch.Tensor, module: nn.Module | None) -> int | None:
    for layer in module.modules() if module is not None else ():
        if isinstance(layer, nn.Conv1d) and layer.in_channels == tensor.shape[1]:
            return 1
        if isinstance(layer, nn.Conv1d) and layer.in_channels == tensor.shape[2] > 1:
            return 2
        width = vars(layer).get("input_size" if isinstance(layer, nn.RNNBase | nn.RNNCellBase) else "in_features")
        if isinstance(width, int) and width > 1 and width == tensor.shape[2]:
            return 2
    return None


def kind_of(tensor: torch.Tensor) -> str:
    if tensor.dim() >= 4:
        return "image"
    return {2: "features", 3: "sequence"}.get(tensor.dim(), "other")


class InputStream:
    """Sums over the first observed steps, kept on the tensor's device."""

    def __init__(self, tensor: torch.Tensor, module: nn.Module, place: int, location: Any) -> None:
        self.shape, self.kind = tuple(tensor.shape), kind_of(tensor)
        self.dtype = str(tensor.dtype).removeprefix("torch.")
        self.axis = axis_of(tensor, module)
        self.place = place  # among the tensors of the call
        self.location = location
        self.samples = 0
        self.sums: torch.Tensor | None = None  # (6, channels): count, sum, sum of squares, -min, max, nonfinite
        self._shares: torch.Tensor | None = None  # (2,): exact zeros and ones, zeros
        # Values of the first image batch.
        self.sample = tensor.detach()[0, 0].reshape(-1)[:SAMPLE].clone() if self.kind == "image" else None

    def fits(self, tensor: torch.Tensor) -> bool:
        same = tensor.dim() == len(self.shape)
        return same and (self.axis is None or tensor.shape[self.axis] == self.shape[self.axis])

    def add(self, tensor: torch.Tensor) -> None:
        self.samples += tensor.shape[0]
        for part in torch.split(tensor.detach(), max(1, BLOCK * tensor.shape[0] // tensor.numel())):
            self._add(part)

    def _add(self, tensor: torch.Tensor) -> None:
        values = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
        if self.axis is not None:
            rows = values.movedim(self.axis, 0).reshape(values.shape[self.axis], -1)
        else:
            rows = values.reshape(1, -1)
        finite = torch.isfinite(rows)
        count = finite.sum(1).double()
        clean = torch.where(finite, rows, torch.zeros_like(rows))
        low = torch.where(finite, rows, torch.full_like(rows, torch.inf)).amin(1).double()
        high = torch.where(finite, rows, torch.full_like(rows, -torch.inf)).amax(1).double()
        total = clean.sum(1, dtype=torch.float64)
        squares = clean.square().sum(1, dtype=torch.float64)
        sums = torch.stack([count, total, squares, -low, high, rows.shape[1] - count])
        zero = rows == 0
        shares = torch.stack([(zero | (rows == 1)).sum(), zero.sum()]).double()
        if self.sums is None or self._shares is None:
            self.sums, self._shares = sums, shares
        else:
            extremes = torch.maximum(self.sums[3:5], sums[3:5])
            self.sums = torch.cat([self.sums[:3] + sums[:3], extremes, self.sums[5:] + sums[5:]])
            self._shares = self._shares + shares

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(channels,) mean and standard deviation, on the host."""
        assert self.sums is not None
        count, total, squares = self.sums[:3].cpu()
        mean = total / count.clamp(min=1)
        variance = (squares / count.clamp(min=1) - mean.square()).clamp(min=0)
        # Cancellation leaves noise where a channel is constant.
        return mean, torch.where(variance > 1e-12 * mean.square(), variance, torch.zeros_like(variance)).sqrt()

    def summary(self, spread: torch.Tensor | None) -> dict[str, Any]:
        """Fields of `Inputs`. `spread`: (channels,) where the model prepares the features itself. Fetches."""
        assert self.sums is not None
        assert self._shares is not None
        sums, (mean, std) = self.sums.cpu(), self.moments()
        total = float(sums[0].sum().clamp(min=1))
        overall = float(sums[1].sum()) / total
        variance = max(0.0, float(sums[2].sum()) / total - overall**2)
        varying = std > 0
        ratio = torch.where(varying, mean.abs() / std.clamp(min=1e-300), torch.zeros_like(mean))
        binary, zero = (self._shares.cpu() / total).tolist()
        ratio_of_scales, widest, narrowest = self._scales(std if spread is None else spread)
        return {
            "kind": self.kind,
            "shape": self.shape,
            "dtype": self.dtype,
            "samples": self.samples,
            "mean": overall,
            "std": variance**0.5,
            "min": -float(sums[3].max()),
            "max": float(sums[4].max()),
            "channels": tuple(
                Channel(mean=float(m), std=float(s), min=-float(low), max=float(high))
                for m, s, low, high in zip(mean[:SHOWN], std[:SHOWN], sums[3][:SHOWN], sums[4][:SHOWN], strict=True)
            ),
            "worst_channel": int(ratio.argmax()) if bool(varying.any()) else None,
            "binary_share": min(1.0, binary),
            "zero_share": min(1.0, zero),
            "nonfinite": int(sums[5].sum()),
            "scale_ratio": ratio_of_scales,
            "widest": widest,
            "narrowest": narrowest,
        }

    def _scales(self, std: torch.Tensor) -> tuple[float | None, int | None, int | None]:
        """Largest over smallest spread of the features, and which they are. Columns of zeros and ones (one-hot) have
        the scale that they should have."""
        assert self.sums is not None
        if self.axis is None:
            return None, None, None
        low, high = -self.sums[3].cpu(), self.sums[4].cpu()
        kept = ((std > 0) & ~((low == 0) & (high == 1))).nonzero().flatten()
        if kept.numel() < 2:
            return None, None, None
        widest, narrowest = kept[std[kept].argmax()], kept[std[kept].argmin()]
        return float(std[widest] / std[narrowest]), int(widest), int(narrowest)
