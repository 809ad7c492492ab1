"""Trials: remedies tried on the user's own loop, against the replayed loop as it is."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from auditor.evidence import Metric, PairedReplay, Remedy, TrialRun
from auditor.evidence.trials import keys
from auditor.probe.experiments.feasible import require_rewindable
from auditor.probe.experiments.paired import Pair, Start, favours_treatment, paired_trails
from auditor.probe.remedies import Treatment, treatment
from auditor.probe.replay import NotRun, Replay, Trail

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

STEPS = 120
FEWEST = 20


def trial(probe: Probe, remedies: Sequence[Remedy], base: Sequence[Remedy] = ()) -> Generator[Replay, Trail, TrialRun]:
    """Never raises NotRun: a remedy that cannot be tried is an answer, too. `base`: carried out in both arms."""
    given: dict[str, Any] = {"remedies": tuple(remedies), "base": tuple(base)}
    try:
        require_rewindable(probe)
        before, treated = treatment(probe, base), treatment(probe, (*base, *remedies))
        treated.unit /= before.unit
        label = " and ".join(remedy.kind.value for remedy in remedies)

        def looked(pair: Pair) -> bool:
            look = _look(pair, treated)
            return look is not None and favours_treatment(look)

        start = Start(keys(base), before.fields)
        pairs = yield from paired_trails(probe, label, STEPS, FEWEST, looked, start, **treated.fields)
        if pairs and not all(treated.met):
            raise NotRun("the call that it concerns was not met in a replayed step")
        looks = [look for pair in pairs if (look := _look(pair, treated)) is not None]
        if looks and all(look.control == look.treated for look in looks):
            raise NotRun(f"it made no difference in {len(looks[0].control)} steps")
        if not looks:
            raise NotRun(f"the {treated.metric} is not known: no loss function of torch was called with class labels")
    except NotRun as why:
        return TrialRun(**given, refused=str(why))
    return TrialRun(**given, metric=treated.metric, looks=tuple(looks))


def _look(pair: Pair, treated: Treatment) -> PairedReplay | None:
    """Both arms by the metric of the treatment; None where that is not known."""
    arms = [_series(trail, treated.metric) for trail in (pair.control, pair.treated)]
    if not all(arms):
        return None
    control = tuple(value / treated.unit for value in arms[0])
    return PairedReplay(start="initial", control=control, treated=tuple(arms[1]), seed_offset=pair.seed)


def _series(trail: Trail, metric: Metric) -> list[float]:
    """One value a step, lower is better; empty where it is not known."""
    if metric == "loss":
        return trail.losses
    if metric == "loss of the data":
        return trail.data_losses if _known(trail.data_losses) else []
    shares = trail.accuracies if metric == "error rate" else trail.balanced
    return [1 - share for share in shares] if _known(shares) else []


def _known(values: Sequence[float]) -> bool:
    """A metric that is missing at first was never heard; one that is lost later on belongs to a loop that diverged."""
    return bool(values) and math.isfinite(values[0])
