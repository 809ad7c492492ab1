"""Statistics of the model's floating-point inputs over the first observed batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from auditor.evidence import Inputs, is_flag
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.firstlayer import FirstLayerInput
from auditor.probe.inputstream import InputStream
from auditor.probe.locate import user_location

STEPS = 5
MOST_STREAMS = 8
OFF_CENTER = 1.0  # |mean| / std of some channel
LARGE = 20.0  # largest absolute value
SMALL = 0.02  # the same, of an image that may have been scaled down twice
TINY = 0.001  # the same, of anything else
MISMATCH = 100.0  # largest over smallest standard deviation of the features
NORMALIZATIONS = (
    "BatchNorm",
    "LayerNorm",
    "GroupNorm",
    "InstanceNorm",
    "RMSNorm",
    "LocalResponseNorm",
    "SyncBatchNorm",
)


class InputsCollector(Collector):
    """The first floating-point tensor of the calls counts as the input. Others are followed as well, each by its place
    in the call, and one of them is told of where the first one is ordinary and the other is not: only those that a
    layer receives as they are, alone or beside others."""

    name = "inputs"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._first: InputStream | None = None
        self._others: dict[tuple[int, int], InputStream] = {}  # (id of the module called, place in the call)
        self._entries: dict[int, nn.Module] = {}  # id of a stream -> the layer that receives it
        # What a layer receives where the model shifts or scales images or sequences itself.
        self._inner: tuple[InputStream, nn.Module] | None = None
        self._present: list[tuple[InputStream, torch.Tensor]] = []  # of the forward that is under way
        self._first_layer: nn.Module | None = None
        self._entering = FirstLayerInput(probe)
        self._summary: Inputs | None = None
        self._chosen: InputStream | None = None
        self._totals: list[torch.Tensor] = []  # 0-d per step: sum of the input

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        given = [t for t in tensors((args, kwargs)) if t.layout == torch.strided]  # a sparse one is a graph, no input
        floating = [t for t in given if t.is_floating_point() and t.numel()]
        if floating and len(self._totals) <= self.step:
            # One pass: any NaN or infinity makes the sum one. Not in half precision, where finite numbers would too.
            low = floating[0].dtype in (torch.float16, torch.bfloat16)
            self._totals.append(floating[0].detach().sum(dtype=torch.float32 if low else None))
        self._present = []
        if self.step >= STEPS:
            return
        first = next((t for t in floating if not t.requires_grad and t.dim()), None)
        if first is None:
            return
        if self._first is None:
            self._first = InputStream(first, module, 0, user_location())
            self._first_layer = first_layer(module)
        if self._first.fits(first):
            if self._first.kind == "features" and self._first_layer is not module:
                self._entering.listen(self._first_layer, first)
            self._first.add(first)
            self._present.append((self._first, first))
        for place, tensor in enumerate(floating):
            if tensor is not first and not tensor.requires_grad and tensor.dim() >= 2:
                self._follow(module, place, tensor)

    def _follow(self, module: nn.Module, place: int, tensor: torch.Tensor) -> None:
        key = (id(module), place)
        if key not in self._others:
            if self.step or len(self._others) >= MOST_STREAMS:
                return
            self._others[key] = InputStream(tensor, module, place, user_location())
        if self._others[key].fits(tensor):
            self._others[key].add(tensor)
            self._present.append((self._others[key], tensor))

    def layer_forwarded(self, module: nn.Module, args: Any, result: Any) -> None:
        """The first layer with parameters that receives a tensor of the call as it is, or as the model prepared it."""
        if not self._present or not args or not isinstance(args[0], torch.Tensor) or not _is_layer(module):
            return
        if args[0].layout != torch.strided:
            return
        self._look_inside(module, args[0])
        for stream, tensor in self._present:
            if id(stream) not in self._entries and args[0].data_ptr() == tensor.data_ptr():
                if args[0].shape == tensor.shape:
                    self._entries[id(stream)] = module
            elif id(stream) not in self._entries and self._others and _joined(args[0], tensor):
                self._entries[id(stream)] = module

    def _look_inside(self, module: nn.Module, entering: torch.Tensor) -> None:
        first, given = self._present[0]
        if first is not self._first or first.kind == "features" or entering.shape != given.shape:
            return
        if entering.requires_grad or not entering.is_floating_point() or entering.data_ptr() == given.data_ptr():
            return
        if self._inner is None:
            self._inner = (InputStream(entering, module, 0, first.location), module)
        if self._inner[1] is module:
            self._inner[0].add(entering)

    def forwarded(self, module: nn.Module, result: Any) -> None:
        self._entering.end()
        self._present = []

    @property
    def seen(self) -> bool:
        return self._first is not None

    def saw_nonfinite(self, step: int) -> bool:
        """True when the input of the observed step held NaN or infinity. Fetches."""
        return step < len(self._totals) and not bool(torch.isfinite(self._totals[step]))

    @property
    def chosen(self) -> InputStream:
        """The one that is told of."""
        self.summary()
        assert self._chosen is not None
        return self._chosen

    def prepared(self) -> tuple[nn.Module, torch.Tensor, torch.Tensor] | None:
        """The first layer, and (channels,) mean and standard deviation of what it receives, where the model itself
        shifts or scales its input before. Of the first input only."""
        if self._inner is not None and self._chosen is self._inner[0]:
            return (self._inner[1], *self._inner[0].moments())
        if self._first is None or (self._chosen is not None and self._chosen is not self._first):
            return None
        moments, layer = self._entering.moments(self._first.samples), self._entering.layer
        return (layer, *moments) if moments is not None and layer is not None else None

    def part(self) -> Inputs:
        if self._first is None:
            raise Unavailable("the model is not called with a floating-point tensor")
        return self.summary()

    def summary(self) -> Inputs:
        if self._summary is None:
            assert self._first is not None
            self._chosen = self._first
            self._summary = self._summarize(self._first, self._first_layer)
            if self._inner is not None and not self._summary.nonfinite:
                inner = self._summarize(*self._inner).model_copy(update={"further": False, "prepared": True})
                if suspicious(inner):
                    self._chosen, self._summary = self._inner[0], inner
            if not self._summary.nonfinite and not suspicious(self._summary):
                self._look_at_others()
        return self._summary

    def _look_at_others(self) -> None:
        for stream in self._others.values():
            layer = self._entries.get(id(stream))
            if layer is None or stream.sums is None:
                continue
            summary = self._summarize(stream, layer)
            if suspicious(summary):
                self._chosen, self._summary = stream, summary
                return

    def _summarize(self, stream: InputStream, layer: nn.Module | None) -> Inputs:
        names = self.probe.program.module_names()
        training = next((loader for loader in self.probe.program.loaders if loader.training_credits), None)
        prepared = self.prepared() if stream is self._first else None
        step = grey_step(stream.sample) if stream.sample is not None else None
        return Inputs(
            **stream.summary(prepared[2] if prepared is not None else None),
            prepared=prepared is not None,
            further=stream is not self._first,
            grey_step=step,
            first_layer=names.get(id(layer), type(layer).__name__) if layer is not None else "",
            first_layer_kind=type(layer).__name__ if layer is not None else "",
            normalized_first=layer is not None and type(layer).__name__.startswith(NORMALIZATIONS),
            location=training.location if training is not None and training.location else stream.location,
            model_location=stream.location,
        )


def suspicious(inputs: Inputs) -> bool:
    """Whether the inputs are so far from the ordinary that the experiment with standardized ones is worth its steps."""
    if inputs.normalized_first or inputs.nonfinite:
        return False
    channels = [channel for channel in inputs.channels if not is_flag(inputs.kind, channel)]
    off = any(abs(channel.mean) > OFF_CENTER * channel.std > 0 for channel in channels)
    largest = max(abs(inputs.min), abs(inputs.max))
    tiny = 0 < largest < (SMALL if inputs.kind == "image" else TINY)
    return off or tiny or largest > LARGE or (inputs.scale_ratio or 0.0) > MISMATCH


def _joined(whole: torch.Tensor, tensor: torch.Tensor) -> bool:
    """Whether a table was put beside others to make this one. Fetches."""
    if whole.dim() != 2 or tensor.dim() != 2 or whole.shape[0] != tensor.shape[0] or whole.dtype != tensor.dtype:
        return False
    with torch.no_grad():
        width = tensor.shape[1]
        places = (whole[0] == tensor[0, 0]).nonzero().flatten().tolist() if whole.shape[1] > width else []
        return any(torch.equal(whole[:, at : at + width], tensor) for at in places[:8])


def _is_layer(module: nn.Module) -> bool:
    return type(module).__name__.startswith(NORMALIZATIONS) or any(True for _ in module.parameters(recurse=False))


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
        if _is_layer(child):
            return child
    return None
