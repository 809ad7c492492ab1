"""Replay at a quarter of the learning rate: same weights, same batches, same random numbers."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from auditor.evidence import LowerRate, PairedReplay
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.replay import Experiment, NotRun, Replay

if TYPE_CHECKING:
    from collections.abc import Callable

    from auditor.probe.probe import Probe
    from auditor.probe.replay import InputChange

FACTOR = 0.25
STEPS = 60
FEWEST = 20
WORTH_A_SECOND_LOOK = 0.97  # treated over control, median of the last third


def lower_rate(probe: Probe) -> Experiment:
    require_rewindable(probe)
    if probe.manual():
        raise NotRun("the weights are updated without a torch optimizer, whose rate could be changed")
    looks = yield from paired_looks(probe, "a quarter of the rate", STEPS, FEWEST, factor=FACTOR)
    record = probe.program.stepped()[0]
    return LowerRate(
        factor=FACTOR,
        learning_rate=probe.reference_rate(),
        optimizer=type(record.optimizer).__name__,
        looks=tuple(looks),
        fidelity=probe.fidelity,
        location=record.location,
    )


def paired_looks(
    probe: Probe,
    label: str,
    steps: int,
    fewest: int,
    *,
    factor: float = 1.0,
    change: InputChange | None = None,
    prepare: Callable[[], None] | None = None,
) -> _Looks:
    """One look at control and treatment; a second one, with the batches in reverse and other random numbers, when the
    first favours the treatment: one look has a false alarm in some thirty healthy programs."""
    looks: list[PairedReplay] = []
    # Both arms of the first look must fit into the time; the second look repeats it, if there is time for that.
    steps = max(fewest, min(steps, probe.director.affordable_steps() // 2))
    for seed, backwards in ((None, False), (20_011, True)):
        if looks and probe.director.affordable_steps() < 2 * steps:
            return looks
        pair: list[list[float]] = []
        for treated in (False, True):
            trail = yield Replay(
                steps=steps,
                label=label if treated else f"{label}: control",
                fewest=fewest,
                order=order(probe, backwards=backwards),
                rate=(lambda step: factor) if treated else (lambda step: 1.0),
                input_change=change if treated else None,
                prepare=prepare if treated else None,
                seed=seed,
                stop=_hopeless,
            )
            if not looks:
                trail.require(fewest)
            if not trail.usable and len(trail.losses) < fewest:
                return looks
            pair.append(trail.losses)
        looks.append(
            PairedReplay(start="initial", control=tuple(pair[0]), treated=tuple(pair[1]), seed_offset=seed or 0)
        )
        if not _favours_treatment(pair[0], pair[1]):
            return looks
    return looks


if TYPE_CHECKING:
    from collections.abc import Generator

    from auditor.probe.replay import Trail

    _Looks = Generator[Replay, Trail, list[PairedReplay]]


def _hopeless(losses: list[float]) -> bool:
    """Five non-finite losses in a row: nothing more to learn from this arm."""
    return len(losses) >= 5 and not any(math.isfinite(loss) for loss in losses[-5:])


def _favours_treatment(control: list[float], treated: list[float]) -> bool:
    ends = [_end(control), _end(treated)]
    if not math.isfinite(ends[1]):
        return False
    if not math.isfinite(ends[0]):
        return True
    spread = abs(control[0]) or 1.0
    return ends[1] < ends[0] - (1 - WORTH_A_SECOND_LOOK) * max(abs(ends[0]), 0.01 * spread)


def _end(losses: list[float]) -> float:
    tail = losses[-max(1, len(losses) // 3) :]
    return statistics.median(tail) if all(math.isfinite(loss) for loss in tail) else math.inf
