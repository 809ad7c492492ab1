"""The control of all controls: after a rewind, do the first steps repeat themselves?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from auditor.probe.experiments.feasible import (
    choose_feeding,
    order,
    require_rewindable,
    substitute_formulas,
    substitute_rows,
)
from auditor.probe.replay import Experiment, NotRun, Replay

if TYPE_CHECKING:
    from auditor.evidence import Part
    from auditor.probe.probe import Probe

STEPS = 3
TOLERANCE = 1e-3  # relative; bit-equal on most machines, atomics on a GPU leave a little


def rewind_check(probe: Probe) -> Experiment:
    """Raises NotRun when the loop carries state that the probe cannot put back. Makes no part."""
    require_rewindable(probe, unfed=True)
    choose_feeding(probe)
    try:
        return (yield from _check(probe))
    except NotRun as why:
        refused = why
    for substitute in (substitute_formulas, substitute_rows):
        if substitute(probe):
            try:
                return (yield from _check(probe))
            except NotRun as why:
                refused = why
    raise refused


def _check(probe: Probe) -> Experiment:
    steps = min(STEPS, probe.observed)
    first = yield Replay(steps=steps, label="rewind check", order=order(probe))
    first.require(1)
    if probe.first_recorded == 0:
        expected = probe.observed_losses()[: len(first.losses)]
    else:
        again = yield Replay(steps=steps, label="rewind check", order=order(probe))
        again.require(1)
        expected = again.losses
    probe.fidelity = _difference(first.losses[0], expected[0])
    for step, (replayed, observed) in enumerate(zip(first.losses, expected, strict=False)):
        if _difference(replayed, observed) > TOLERANCE:
            raise NotRun(
                f"after rewinding, the loop did not repeat step {step + 1}: its loss was {replayed:.6g} instead of "
                f"{observed:.6g}, so it carries state that the probe cannot put back"
            )
    return _nothing()


def _difference(replayed: float, observed: float) -> float:
    if math.isnan(replayed) and math.isnan(observed):
        return 0.0
    if replayed == observed:
        return 0.0
    difference = abs(replayed - observed) / max(abs(observed), 1e-8)
    return difference if not math.isnan(difference) else math.inf


def _nothing() -> Part:
    from auditor.evidence import Part

    return Part()
