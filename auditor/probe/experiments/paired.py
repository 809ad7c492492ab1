"""The same batches from the same weights with the same random numbers, with and without an intervention."""

from __future__ import annotations

import math
import statistics
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from auditor.evidence import PairedReplay
from auditor.probe.experiments.feasible import order
from auditor.probe.replay import Replay, Trail

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

WORTH_A_SECOND_LOOK = 0.97  # treated over control, median of the last third
Looks = Generator[Replay, Trail, list[PairedReplay]]


def paired_looks(
    probe: Probe, label: str, steps: int, fewest: int, *, unit: float = 1.0, **interventions: Any
) -> Looks:
    """One look at control and treatment; a second one, with the batches in reverse and other random numbers, when the
    first favours the treatment: one look has a false alarm in some thirty healthy programs.

    `interventions`: fields of the treated arm's Replay. `unit`: what the control's losses are divided by, where the
    treatment changes the unit of the loss.
    """
    looks: list[PairedReplay] = []
    # Both arms of the first look must fit into the time; the second look repeats it, if there is time for that.
    steps = max(fewest, min(steps, probe.director.affordable_steps() // 2))
    for seed, backwards in ((None, False), (20_011, True)):
        if looks and probe.director.affordable_steps() < 2 * steps:
            return looks
        control = Replay(
            steps=steps,
            label=f"{label}: control",
            fewest=fewest,
            order=order(probe, backwards=backwards),
            seed=seed,
            stop=hopeless,
        )
        pair: list[list[float]] = []
        for arm in (control, replace(control, label=label, **interventions)):
            trail = yield arm
            if not looks:
                trail.require(fewest)
            if not trail.usable and len(trail.losses) < fewest:
                return looks
            pair.append(trail.losses if pair else [loss / unit for loss in trail.losses])
        look = PairedReplay(start="initial", control=tuple(pair[0]), treated=tuple(pair[1]), seed_offset=seed or 0)
        looks.append(look)
        if not favours_treatment(look):
            return looks
    return looks


def hopeless(losses: list[float]) -> bool:
    """Five non-finite losses in a row: nothing more to learn from this arm."""
    return len(losses) >= 5 and not any(math.isfinite(loss) for loss in losses[-5:])


def favours_treatment(look: PairedReplay) -> bool:
    """The treated arm ended lower by more than a little."""
    control, treated = list(look.control), list(look.treated)
    ends = [end_level(control), end_level(treated)]
    if not math.isfinite(ends[1]):
        return False
    if not math.isfinite(ends[0]):
        return True
    spread = abs(control[0]) or 1.0
    return ends[1] < ends[0] - (1 - WORTH_A_SECOND_LOOK) * max(abs(ends[0]), 0.01 * spread)


def end_level(losses: Sequence[float]) -> float:
    """Median of the last third; infinite where that is not finite, or nothing."""
    tail = losses[-max(1, len(losses) // 3) :]
    return statistics.median(tail) if tail and all(math.isfinite(loss) for loss in tail) else math.inf
