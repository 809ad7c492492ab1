"""Trials of what concerns the model's answers and not its training: both arms share the weights of each replayed step,
and the model is called beside the loop, as it is and with the remedy."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from auditor.evidence import PairedReplay
from auditor.probe.examination import Examination
from auditor.probe.experiments.feasible import order
from auditor.probe.experiments.paired import ARRANGEMENTS, Start, hopeless
from auditor.probe.replay import NotRun, Replay, Trail

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

STEPS = 30
FEWEST = 21  # a last third of seven, the least that a paired test at 1 % can do with
SECONDS = 10.0  # of one look

Gauge = Callable[[Examination], tuple[float, float]]


def beside_the_loop(
    probe: Probe, label: str, gauge: Gauge, start: Start
) -> Generator[Replay, Trail, list[PairedReplay]]:
    """Up to two looks, each on other batches; the figure of each step as it is and with the remedy.

    Raises NotRun where the model cannot be called beside the loop, or does not have what the figure is of.
    """
    looks: list[PairedReplay] = []
    for seed, backwards in ARRANGEMENTS:
        figures: list[tuple[float, float]] = []
        refused: list[NotRun] = []
        until = time.monotonic() + SECONDS

        def look(examination: Examination, step: int, into: list[tuple[float, float]] = figures) -> None:
            try:
                into.append(gauge(examination))
            except NotRun as why:
                refused.append(why)  # noqa: B023 - the list of this turn of the loop

        trail = yield Replay(
            steps=STEPS,
            label=label,
            fewest=FEWEST,
            order=order(probe, backwards=backwards),
            seed=seed,
            stop=lambda losses: hopeless(losses) or bool(refused) or time.monotonic() > until,  # noqa: B023
            examine=look,
            **start.interventions,
        )
        if not looks:
            if refused:
                raise refused[0]
            if trail.trouble:
                raise NotRun(f"the model could not be called beside the loop: {trail.trouble}")
            trail.require(FEWEST)
        if len(figures) < FEWEST:
            break
        control, treated = zip(*figures, strict=True)
        looks.append(PairedReplay(start="initial", control=control, treated=treated, seed_offset=seed or 0))
    if not looks:
        raise NotRun(f"the model was called in fewer than {FEWEST} of the replayed steps, or too slowly")
    return looks
