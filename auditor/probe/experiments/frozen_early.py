"""Replay without the early layers' gradients: where they learn, that changes the losses."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

import torch

from auditor.evidence import FrozenEarly
from auditor.probe.collect import Unavailable
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.experiments.paired import hopeless
from auditor.probe.replay import Experiment, NotRun, Replay

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

STEPS = 30
FEWEST = 10
FEWEST_LAYERS = 4
FADED = 1e-2  # of the last layers' gradient per weight: what is below is worth the experiment


def frozen_early(probe: Probe) -> Experiment:
    if probe.manual():
        raise NotRun("the weights are updated without a torch optimizer", "not-applicable")
    layers = faded_layers(probe)
    if not layers:
        raise NotRun("the gradients of the early layers are of ordinary size", "not-applicable")
    require_rewindable(probe)
    gone = {id(parameter) for module in layers.values() for parameter in module.parameters(recurse=False)}

    def take_away(step: int, parameters: list[torch.Tensor]) -> None:
        for parameter in parameters:
            if id(parameter) in gone:
                parameter.grad = None

    steps = max(FEWEST, min(STEPS, probe.director.affordable_steps() // 2))
    losses = []
    for frozen in (False, True):
        trail = yield Replay(
            steps=steps,
            label="early layers frozen" if frozen else "early layers frozen: control",
            fewest=FEWEST,
            order=order(probe),
            at_update=take_away if frozen else None,
            stop=hopeless,
        )
        trail.require(FEWEST)
        losses.append(trail.losses)
    return FrozenEarly(layers=tuple(layers), control=tuple(losses[0]), frozen=tuple(losses[1]), fidelity=probe.fidelity)


def faded_layers(probe: Probe) -> dict[str, torch.nn.Module]:
    """The first layers in the order of execution, up to the first whose gradient per weight is no longer tiny beside
    that of the last ones. Weights and biases together; layers without a gradient do not count."""
    try:
        gradients = probe.collectors.find("gradients").part()
    except Unavailable as why:
        raise NotRun(str(why), why.outcome) from None
    modules = dict(probe.program.layers())
    sizes: list[tuple[str, float]] = []
    for layer in gradients.layers:
        module = modules.get(layer.name)
        count = sum(p.numel() for p in module.parameters(recurse=False)) if module is not None else 0
        norms = [norm for norm in layer.norms if math.isfinite(norm)]
        if count and norms and any(norms):
            sizes.append((layer.name, statistics.median(norms) / math.sqrt(count)))
    if len(sizes) < FEWEST_LAYERS:
        return {}
    reference = statistics.median(size for _, size in sizes[-2:])
    found: dict[str, torch.nn.Module] = {}
    for name, size in sizes[:-2]:
        if not size < FADED * reference:
            break
        found[name] = modules[name]
    return found
