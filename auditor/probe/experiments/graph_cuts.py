"""Weights that never had a gradient: does the loss depend on them all the same, and where was the graph cut?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from auditor.evidence import GraphCut, GraphCuts
from auditor.probe.cutwatch import Cut, CutWatch
from auditor.probe.experiments.feasible import order, require_rewindable, without_calls
from auditor.probe.replay import Experiment, NotRun, Replay, Trail

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

GROUPS = 4  # of weights that are disturbed one after the other
SEED = 90_001
SMALL = 0.02  # standard deviation of the disturbance of weights that are zero


def graph_cuts(probe: Probe) -> Experiment:
    collector = probe.collectors.find("gradient_reach")
    waiting = [p for p in collector.unreached() if not collector.moved(p)] if collector is not None else []
    if not waiting:
        raise NotRun("every parameter that an optimizer holds had a gradient, or is moved by hand", "not-applicable")
    require_rewindable(probe, unfed=True)
    watch = CutWatch(probe)
    try:
        control = yield _replay(probe, "as it is", watch.begin)
    finally:
        watch.end()
    control.require(1)
    if not math.isfinite(control.losses[0]):
        raise NotRun("the loss is not finite on the first batch")
    if without_calls(probe):  # nothing was fed: a loop that counts through its data has gone on to the next batch
        again = yield _replay(probe, "as it is, again", _nothing)
        again.require(1)
        if again.losses[0] != control.losses[0]:
            raise NotRun("the loop did not repeat its first step: it carries state that the probe cannot put back")
    cuts: list[GraphCut] = []
    for parameters, found in _groups(waiting, watch.cuts)[:GROUPS]:
        disturbed = yield _replay(probe, "weights disturbed", lambda chosen=parameters: _disturb(chosen))  # type: ignore[misc]
        if not disturbed.losses:
            break
        cuts.append(_describe(probe, parameters, found, control, disturbed))
    if not cuts:
        raise NotRun("no time was left to disturb the weights that had no gradient")
    return GraphCuts(cuts=tuple(cuts), fidelity=probe.fidelity)


def _replay(probe: Probe, label: str, prepare: Callable[[], None]) -> Replay:
    return Replay(steps=1, label=f"weights without gradient: {label}", order=order(probe), prepare=prepare)


def _nothing() -> None: ...


def _groups(waiting: list[torch.Tensor], cuts: list[Cut]) -> list[tuple[list[torch.Tensor], list[Cut]]]:
    """Parameters by the place at which they were cut off, with all cuts of theirs, the likeliest first."""
    groups: dict[object, tuple[list[torch.Tensor], list[Cut]]] = {}
    for parameter in waiting:
        found = sorted((cut for cut in cuts if id(parameter) in cut.leaves), key=lambda cut: not cut.certain)
        key = (found[0].operation, found[0].location) if found else None
        group = groups.setdefault(key, ([], found))
        group[0].append(parameter)
    return sorted(groups.values(), key=lambda group: -sum(parameter.numel() for parameter in group[0]))


def _disturb(parameters: list[torch.Tensor]) -> None:
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for parameter in parameters:
            size = max(float(parameter.detach().float().square().mean().sqrt()), SMALL)
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data.add_((size * noise).to(parameter))


def _describe(
    probe: Probe, parameters: list[torch.Tensor], cuts: list[Cut], control: Trail, disturbed: Trail
) -> GraphCut:
    layers = probe.program.parameter_layers()
    names = {layers[id(p)][0]: layers[id(p)][1] for p in parameters if id(p) in layers}
    change = abs(disturbed.losses[0] - control.losses[0]) / max(abs(control.losses[0]), 1e-8)
    others = dict.fromkeys(
        f"{cut.operation} in line {cut.location.line}"
        for cut in cuts[1:]
        if cut.location is not None and (cut.operation, cut.location) != (cuts[0].operation, cuts[0].location)
    )
    return GraphCut(
        layers=tuple(names)[:12],
        parameters=sum(parameter.numel() for parameter in parameters),
        change=change if math.isfinite(change) else math.inf,
        noise=probe.fidelity or 0.0,
        operation=cuts[0].operation if cuts else "",
        location=cuts[0].location if cuts else None,
        others=tuple(others)[:4],
        loaded=any(probe.program.has_loaded(outer) for layer in names.values() for outer in _around(probe, layer)),
        training=any(layer.training for layer in names.values()) if names else True,
    )


def _around(probe: Probe, layer: torch.nn.Module) -> list[torch.nn.Module]:
    """The layer and the modules of its model that contain it."""
    inner = [module for _, model in probe.program.models() for module in model.modules()]
    return [module for module in inner if any(layer is each for each in module.modules())]
