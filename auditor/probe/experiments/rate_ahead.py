"""Replay at the rate that the schedule is going to reach at the end of the loop's plan.

For schedules that rise all the way alone: the others have their peak in the middle, and come down again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditor.evidence import PairedReplay, RateAhead
from auditor.probe.collect import Unavailable
from auditor.probe.experiments.feasible import require_rewindable
from auditor.probe.experiments.paired import Pair, end_level, paired_trails
from auditor.probe.replay import Experiment, NotRun

if TYPE_CHECKING:
    from auditor.evidence import Schedule
    from auditor.probe.probe import Probe

STEPS = 120
FEWEST = 80
LATE = 0.9  # of the calls to come, before which the peak is no end
HIGHER = 3.0  # times the rate seen so far
RAMP = 0.25  # of the steps before the rise, and as many for it


def rate_ahead(probe: Probe) -> Experiment:
    require_rewindable(probe)
    rising = _rising(probe)
    if rising is None:
        raise NotRun("no schedule is known to rise until the loop ends", "not-applicable")
    factor = max(rising.ahead) / probe.reference_rate()
    steps = max(FEWEST, min(STEPS, probe.director.affordable_steps() // 2))

    def course(step: int) -> float:
        return float(1 + (factor - 1) * min(1.0, max(0.0, step / (RAMP * steps) - 1)))

    def harmful(pair: Pair) -> bool:
        return end_level(pair.treated.losses) > end_level(pair.control.losses)

    pairs = yield from paired_trails(probe, "the rate to come", steps, FEWEST, harmful, rate=course, peak_rate=True)
    record = probe.program.stepped()[0]
    return RateAhead(
        learning_rate=probe.reference_rate(),
        peak=max(rising.ahead),
        calls=rising.calls_ahead,
        schedule=rising.kind,
        optimizer=type(record.optimizer).__name__,
        looks=tuple(
            PairedReplay(start="initial", control=tuple(pair.treated.losses), treated=tuple(pair.control.losses))
            for pair in pairs
        ),
        fidelity=probe.fidelity,
        location=rising.location or record.location,
    )


def _rising(probe: Probe) -> Schedule | None:
    """The schedule whose highest rate is its last, far above all rates seen; None where there is none."""
    if probe.manual():
        return None
    try:
        schedules = probe.collectors.find("schedules").part().schedules
    except Unavailable:
        return None
    for schedule in schedules:
        peak = max(schedule.ahead, default=0.0)
        late = bool(schedule.ahead) and schedule.ahead.index(peak) >= LATE * (len(schedule.ahead) - 1)
        if late and len(schedule.ahead) > 1 and peak >= HIGHER * probe.reference_rate() > 0:
            return schedule  # type: ignore[no-any-return]
    return None
