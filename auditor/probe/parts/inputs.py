"""Statistics of the model's floating-point input over the first observed batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from auditor.evidence import Channel, Inputs
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.firstlayer import FirstLayerInput
from auditor.probe.locate import user_location

STEPS = 5
MOST_CHANNELS = 2**16
BLOCK = 2**21  # elements looked at together: what is worked out on the way takes several times their memory
SHOWN = 64
SAMPLE = 2**14  # values of one image channel, to see whether they come from 8 bits
NORMALIZATIONS = (
    "BatchNorm",
    "LayerNorm",
    "GroupNorm",
    "InstanceNorm",
    "RMSNorm",
    "LocalResponseNorm",
    "SyncBatchNorm",
)


def axis_of(tensor: torch.Tensor) -> int | None:
    """The channel axis: features of (N, F), channels of (N, C, H, W) and (N, C, D, H, W), none for sequences, whose
    layout cannot be told from the shape, and for very many features, whose statistics would take as much memory."""
    if (tensor.dim() == 2 or tensor.dim() >= 4) and tensor.shape[1] <= MOST_CHANNELS:
        return 1
    return None


def kind_of(tensor: torch.Tensor) -> str:
    if tensor.dim() >= 4:
        return "image"
    return {2: "features", 3: "sequence"}.get(tensor.dim(), "other")


class InputsCollector(Collector):
    name = "inputs"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self.axis: int | None = None
        self._shape: tuple[int, ...] = ()
        self._kind = "other"
        self._dtype = ""
        self._sums: torch.Tensor | None = None  # (6, channels): count, sum, sum of squares, -min, max, nonfinite
        self._shares: torch.Tensor | None = None  # (2,): exact zeros and ones, zeros
        self._samples = 0
        self._location: Any = None
        self._first_layer: nn.Module | None = None
        self._entering = FirstLayerInput(probe)
        self._summary: Inputs | None = None
        self._totals: list[torch.Tensor] = []  # 0-d per step: sum of the input
        self._sample: torch.Tensor | None = None  # values of the first image batch

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        given = [t for t in tensors((args, kwargs)) if t.layout == torch.strided]  # a sparse one is a graph, no input
        floating = [t for t in given if t.is_floating_point() and t.numel()]
        if floating and len(self._totals) <= self.step:
            # One pass: any NaN or infinity makes the sum one. Not in half precision, where finite numbers would too.
            low = floating[0].dtype in (torch.float16, torch.bfloat16)
            self._totals.append(floating[0].detach().sum(dtype=torch.float32 if low else None))
        if self.step >= STEPS:
            return
        tensor = next((t for t in floating if not t.requires_grad and t.dim()), None)
        if tensor is None or not tensor.numel():
            return
        if not self._shape:
            self._shape, self._kind = tuple(tensor.shape), kind_of(tensor)
            self._dtype = str(tensor.dtype).removeprefix("torch.")
            self.axis = axis_of(tensor)
            self._location = user_location()
            self._first_layer = first_layer(module)
            if self._kind == "image":
                self._sample = tensor.detach()[0, 0].reshape(-1)[:SAMPLE].clone()
        if tensor.dim() != len(self._shape) or (self.axis is not None and tensor.shape[1] != self._shape[1]):
            return
        self._samples += tensor.shape[0]
        if self._kind == "features" and self._first_layer is not module:
            self._entering.listen(self._first_layer, tensor)
        for part in torch.split(tensor.detach(), max(1, BLOCK * tensor.shape[0] // tensor.numel())):
            self._add(part)

    def forwarded(self, module: nn.Module, result: Any) -> None:
        self._entering.end()

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
        if self._sums is None or self._shares is None:
            self._sums, self._shares = sums, shares
        else:
            extremes = torch.maximum(self._sums[3:5], sums[3:5])
            self._sums = torch.cat([self._sums[:3] + sums[:3], extremes, self._sums[5:] + sums[5:]])
            self._shares = self._shares + shares

    @property
    def seen(self) -> bool:
        return self._sums is not None

    def saw_nonfinite(self, step: int) -> bool:
        """True when the input of the observed step held NaN or infinity. Fetches."""
        return step < len(self._totals) and not bool(torch.isfinite(self._totals[step]))

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(channels,) mean and standard deviation, on the host."""
        assert self._sums is not None
        count, total, squares = self._sums[:3].cpu()
        mean = total / count.clamp(min=1)
        variance = (squares / count.clamp(min=1) - mean.square()).clamp(min=0)
        # Cancellation leaves noise where a channel is constant.
        return mean, torch.where(variance > 1e-12 * mean.square(), variance, torch.zeros_like(variance)).sqrt()

    def prepared(self) -> tuple[nn.Module, torch.Tensor, torch.Tensor] | None:
        """The first layer, and (channels,) mean and standard deviation of what it receives, where the model itself
        shifts or scales its input before."""
        moments, layer = self._entering.moments(self._samples), self._entering.layer
        return (layer, *moments) if moments is not None and layer is not None else None

    def part(self) -> Inputs:
        if self._sums is None:
            raise Unavailable("the model is not called with a floating-point tensor")
        return self.summary()

    def summary(self) -> Inputs:
        if self._summary is None:
            self._summary = self._summarize()
        return self._summary

    def _summarize(self) -> Inputs:
        assert self._sums is not None
        assert self._shares is not None
        sums, (mean, std) = self._sums.cpu(), self.moments()
        count = sums[0]
        total = float(count.sum().clamp(min=1))
        overall = float(sums[1].sum()) / total
        variance = max(0.0, float(sums[2].sum()) / total - overall**2)
        varying = std > 0
        ratio = torch.where(varying, mean.abs() / std.clamp(min=1e-300), torch.zeros_like(mean))
        names = self.probe.program.module_names()
        first = self._first_layer
        training = next((loader for loader in self.probe.program.loaders if loader.training_credits), None)
        binary, zero = (self._shares.cpu() / total).tolist()
        prepared = self.prepared()
        ratio_of_scales, widest, narrowest = self._scales(std if prepared is None else prepared[2])
        return Inputs(
            kind=self._kind,
            shape=self._shape,
            dtype=self._dtype,
            samples=self._samples,
            mean=overall,
            std=variance**0.5,
            min=-float(sums[3].max()),
            max=float(sums[4].max()),
            channels=tuple(
                Channel(mean=float(m), std=float(s), min=-float(low), max=float(high))
                for m, s, low, high in zip(mean[:SHOWN], std[:SHOWN], sums[3][:SHOWN], sums[4][:SHOWN], strict=True)
            ),
            worst_channel=int(ratio.argmax()) if bool(varying.any()) else None,
            binary_share=min(1.0, binary),
            zero_share=min(1.0, zero),
            nonfinite=int(sums[5].sum()),
            scale_ratio=ratio_of_scales,
            widest=widest,
            narrowest=narrowest,
            prepared=prepared is not None,
            grey_step=grey_step(self._sample) if self._sample is not None else None,
            first_layer=names.get(id(first), type(first).__name__) if first is not None else "",
            first_layer_kind=type(first).__name__ if first is not None else "",
            normalized_first=first is not None and type(first).__name__.startswith(NORMALIZATIONS),
            location=training.location if training is not None and training.location else self._location,
            model_location=self._location,
        )

    def _scales(self, std: torch.Tensor) -> tuple[float | None, int | None, int | None]:
        """Largest over smallest spread of the features of a table, and which they are. Columns of zeros and ones
        (one-hot) have the scale that they should have."""
        assert self._sums is not None
        if self._kind != "features":
            return None, None, None
        low, high = -self._sums[3].cpu(), self._sums[4].cpu()
        kept = ((std > 0) & ~((low == 0) & (high == 1))).nonzero().flatten()
        if kept.numel() < 2:
            return None, None, None
        widest, narrowest = kept[std[kept].argmax()], kept[std[kept].argmin()]
        return float(std[widest] / std[narrowest]), int(widest), int(narrowest)


def grey_step(values: torch.Tensor) -> float | None:
    """Distance of neighbouring values where at most 256 evenly spaced ones occur, as in images of 8 bits; else None."""
    levels = torch.unique(values.double())
    if not 3 <= levels.numel() <= 256:
        return None
    gaps = levels.diff()
    step = gaps.min()
    counts = gaps / step
    # Single precision keeps 7 digits of each value, so that a gap is known to about 1e-7 of the largest one.
    slack = 4e-7 * levels.abs().max() / step
    even = bool(((counts - counts.round()).abs() <= (0.02 + 2 * slack)).all())
    return float(step) if even and float(counts.round().sum()) <= 255 and float(slack) < 0.2 else None


def first_layer(module: nn.Module) -> nn.Module | None:
    """The first module with parameters, or the first normalization, in the order of registration."""
    for child in module.modules():
        if type(child).__name__.startswith(NORMALIZATIONS) or any(True for _ in child.parameters(recurse=False)):
            return child
    return None
