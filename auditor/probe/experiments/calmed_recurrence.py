"""Replay with what enters a recurrent layer standardized, where its units are saturated by the scale of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditor.evidence import CalmedRecurrence, RecurrentScale
from auditor.probe import recurrent
from auditor.probe.collect import Unavailable
from auditor.probe.experiments.feasible import require_rewindable
from auditor.probe.experiments.paired import paired_looks
from auditor.probe.replay import Experiment, NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

STEPS = 180  # recurrent networks take their time before they fall
FEWEST = 100
SPARE = 10  # steps between the arms
FLAT = 0.2  # of the gates and candidates
CALMED = 0.5  # of these, that may be flat with standardized inputs: else it is not the inputs that saturate them


def calmed_recurrence(probe: Probe) -> Experiment:
    collector = probe.collectors.find("forward_scale")
    if collector is None:
        raise NotRun("the outputs of the layers were not measured")
    try:
        seen = collector.part()
    except Unavailable as why:
        raise NotRun(str(why), why.outcome) from None
    entering = zip(seen.recurrent, collector.recurrent, collector.entering, strict=True)
    chosen = [(layer.name, module, given) for layer, module, given in entering if driven(layer)]
    if not chosen:
        raise NotRun("no recurrent layer is saturated by what it receives", "not-applicable")
    require_rewindable(probe)
    hooks: list[Any] = []

    def calm() -> None:
        hooks.extend(recurrent.standardized(module, given) for _, module, given in chosen)

    def release() -> None:
        while hooks:
            hooks.pop().remove()

    steps = min(STEPS, probe.director.affordable_steps() // 4 - SPARE)  # two looks of two arms
    looks = yield from paired_looks(probe, "calm recurrent layers", steps, FEWEST, prepare=calm, undo=release)
    names = tuple(name for name, _, _ in chosen)
    return CalmedRecurrence(layers=names, looks=tuple(looks), fidelity=probe.fidelity)


def driven(layer: RecurrentScale) -> bool:
    """Saturated, and would not be if its inputs were standardized."""
    if layer.loaded or layer.flat is None or layer.flat_standardized is None:
        return False
    return layer.flat >= FLAT and layer.flat_standardized <= CALMED * layer.flat
