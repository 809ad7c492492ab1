"""Replay from weights drawn anew for the activation that follows each layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from auditor.evidence import ForwardScale, Reinitialized
from auditor.probe.collect import Unavailable
from auditor.probe.experiments.feasible import require_rewindable
from auditor.probe.experiments.paired import paired_looks
from auditor.probe.held import held
from auditor.probe.replay import Experiment, NotRun

if TYPE_CHECKING:
    from auditor.probe.parts.forward_scale import ForwardScaleCollector
    from auditor.probe.probe import Probe

STEPS = 50
FEWEST = 20
FEWEST_LAYERS = 4
DRIFT = 5.0  # factor between the first and the last hidden layer from which the experiment is worth its steps
SIGNAL_DRIFT = 3000.0  # the same for what differs between samples, which torch's own start lets fade too
SMALLEST, LARGEST = 0.1, 3.0  # std of a weight times the root of its fan-in; common starts have 0.5 to 1.5
SEED = 30_011
GAINS = {"relu": math.sqrt(2.0), "leaky_relu": math.sqrt(2.0), "tanh": 5 / 3, "sigmoid": 1.0, "": 1.0}


def reinitialized(probe: Probe) -> Experiment:
    collector = probe.collectors.find("forward_scale")
    if collector is None:
        raise NotRun("the outputs of the layers were not measured")
    try:
        seen = collector.part()
    except Unavailable as why:
        raise NotRun(str(why), why.outcome) from None
    drifts, odd = suspicious(seen), extreme(seen)
    if not drifts and not odd:
        raise NotRun("the layers' outputs are of similar size, or a normalization keeps them so", "not-applicable")
    require_rewindable(probe)
    layers = dict(zip((layer.name for layer in seen.layers), collector.modules, strict=True))
    chosen = None if drifts else [layers[name] for name in odd if name in layers]
    recurrent = dict(zip((layer.name for layer in seen.recurrent), collector.recurrent, strict=True))
    cells = [recurrent[name] for name in odd if name in recurrent]
    looks = yield from paired_looks(
        probe, "weights drawn anew", STEPS, FEWEST, prepare=redraw(collector, chosen, cells)
    )
    return Reinitialized(layers=len(collector.modules), extreme=odd, looks=tuple(looks), fidelity=probe.fidelity)


def suspicious(seen: ForwardScale) -> bool:
    """Whether the outputs shrink or grow from layer to layer; the last one is a head, whose size is its own affair."""
    if seen.normalized or any(layer.loaded for layer in seen.layers):
        return False
    stds = [] if seen.residual else [layer.std for layer in seen.layers[:-1]]
    signals = [layer.signal or 0.0 for layer in seen.layers[:-1]]
    return _drifts(stds, DRIFT) or _drifts(signals, SIGNAL_DRIFT)


def _drifts(sizes: list[float], limit: float) -> bool:
    if len(sizes) < FEWEST_LAYERS - 1 or not all(math.isfinite(size) and size > 0 for size in sizes):
        return False
    drift = sizes[-1] / sizes[0]
    return drift > limit or drift < 1 / limit


def extreme(seen: ForwardScale) -> tuple[str, ...]:
    """Names of hidden and recurrent layers whose weights are far from the size that keeps a signal as it is."""
    hidden = () if seen.normalized else seen.layers[:-1]
    sizes = [(layer.name, layer.weight_std * math.sqrt(max(1, layer.fan_in)), layer.loaded) for layer in hidden]
    odd = [name for name, size, loaded in sizes if size > 1e-5 and not loaded and not SMALLEST <= size <= LARGEST]
    return (*odd, *(layer.name for layer in seen.recurrent if layer.gain > LARGEST and not layer.loaded))


def redraw(
    collector: ForwardScaleCollector, chosen: list[Any] | None = None, cells: Sequence[Any] = (), *, zeros: bool = False
) -> Callable[[], None]:
    """Normal weights of std gain / sqrt(fan in), biases zero. Weights that start at zero stay, unless `zeros`: they are
    mostly meant to. `chosen`: of these layers alone; `cells`: recurrent layers, in any case."""

    def prepare() -> None:
        with torch.no_grad():
            for place, (module, activation) in enumerate(zip(collector.modules, collector.activations, strict=True)):
                weight, bias = held(module, "weight"), held(module, "bias")
                if weight is None or not weight.requires_grad or not (zeros or bool(weight.any())):
                    continue
                if chosen is not None and all(module is not each for each in chosen):
                    continue
                generator = torch.Generator().manual_seed(SEED + place)
                std = GAINS.get(activation, 1.0) / math.sqrt(max(1, weight[0].numel()))
                weight.data.copy_(torch.randn(weight.shape, generator=generator) * std)
                if bias is not None:
                    bias.data.zero_()
            for place, cell in enumerate(cells):
                _redraw_cell(cell, SEED - 1 - place)

    return prepare


def _redraw_cell(cell: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name in list(cell._parameters):
        weight = held(cell, name)
        if weight is None or not weight.requires_grad:
            continue
        if weight.dim() == 2:
            weight.data.copy_(torch.randn(weight.shape, generator=generator) / math.sqrt(max(1, weight.shape[1])))
        else:
            weight.data.zero_()
