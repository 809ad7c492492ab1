"""Trials: remedies tried on the user's own loop, against the replayed loop as it is."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from auditor.evidence import Metric, PairedReplay, Remedy, TrialRun
from auditor.evidence.trials import keys
from auditor.probe.experiments.beside import beside_the_loop
from auditor.probe.experiments.feasible import require_rewindable
from auditor.probe.experiments.paired import Pair, Start, end_level, favours_treatment, paired_trails
from auditor.probe.experiments.rescored import rescored
from auditor.probe.remedies import Treatment, treatment
from auditor.probe.replay import LoopOver, NotRun, Replay, Trail

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

STEPS = 120
# Figures that the treatment itself measures.
MEASURED = (
    "loss of the counted labels",
    "loss of the next token",
    "loss in evaluation mode",
    "log loss",
    "distance from the targets",
    "error rate of the repaired labels",
)
FEWEST = 20
NO_ROOM = 0.02  # share of wrong answers below which there is nothing to be gained


def trial(probe: Probe, remedies: Sequence[Remedy], base: Sequence[Remedy] = ()) -> Generator[Replay, Trail, TrialRun]:
    """A remedy that cannot be tried is an answer, too. `base`: carried out in both arms. Raises LoopOver where a
    further start of the script may have the steps that this one lacks."""
    given: dict[str, Any] = {"remedies": tuple(remedies), "base": tuple(base)}
    try:
        require_rewindable(probe)
        before, treated = treatment(probe, base), treatment(probe, (*base, *remedies))
        treated.unit /= before.unit
        label = " and ".join(remedy.kind.value for remedy in remedies)
        if treated.gauge is not None:
            start = Start(keys(base), before.fields)
            looks = yield from beside_the_loop(probe, label, treated.gauge, start)
            _require_difference((), looks, treated, treated.metric)
            return TrialRun(**given, metric=treated.metric, looks=tuple(looks))
        if treated.contamination is not None:
            looks = yield from rescored(probe, treated.contamination, Start(keys(base), before.fields))
            return TrialRun(**given, metric=treated.metric, looks=tuple(looks))

        def looked(pair: Pair) -> bool:
            return any(favours_treatment(look) for look in _looks([pair], treated, _metric([pair], treated)))

        start = Start((keys(base), treated.metric), {**before.fields, **treated.shared})
        pairs = yield from paired_trails(probe, label, STEPS, FEWEST, looked, start, **treated.fields)
        metric = _metric(pairs, treated)
        looks = _looks(pairs, treated, metric)
        _require_difference(pairs, looks, treated, metric)
    except NotRun as why:
        if isinstance(why, LoopOver) and probe.director.loop_ended:
            raise
        return TrialRun(**given, refused=str(why))
    return TrialRun(**given, metric=metric, looks=tuple(looks))


def _require_difference(
    pairs: Sequence[Pair], looks: Sequence[PairedReplay], treated: Treatment, metric: Metric
) -> None:
    if pairs and not all(treated.met):
        raise NotRun("the call that it concerns was not met in a replayed step")
    if not looks:
        raise NotRun(f"the {metric} is not known: no loss function of torch was called with class labels")
    if all(look.control == look.treated for look in looks):
        raise NotRun(f"it made no difference in {len(looks[0].control)} steps")


def _metric(pairs: Sequence[Pair], treated: Treatment) -> Metric:
    """That of the treatment. Where there are no classes, or next to nothing is answered wrong, it is the loss."""
    metric = treated.metric
    if metric in MEASURED and pairs and not _series(pairs[0].control, metric):
        metric = treated.otherwise
    if metric == "error rate" and pairs:
        errors = _series(pairs[0].control, "error rate")
        if not errors or end_level(errors) <= NO_ROOM:
            return "loss"
    return metric


def _looks(pairs: Sequence[Pair], treated: Treatment, metric: Metric) -> list[PairedReplay]:
    """Both arms by the metric; none where that is not known."""
    found: list[PairedReplay] = []
    for pair in pairs:
        control, changed = _series(pair.control, metric), _series(pair.treated, metric)
        if control and changed:
            in_unit = tuple(value / treated.unit for value in control)
            found.append(PairedReplay(start="initial", control=in_unit, treated=tuple(changed), seed_offset=pair.seed))
    return found


def _series(trail: Trail, metric: Metric) -> list[float]:
    """One value a step, lower is better; empty where it is not known."""
    if metric == "loss":
        return trail.losses
    if metric in MEASURED:
        return trail.measured if _known(trail.measured) else []
    if metric == "loss of the data":
        return trail.data_losses if _known(trail.data_losses) else []
    shares = trail.accuracies if metric == "error rate" else trail.balanced
    return [1 - share for share in shares] if _known(shares) else []


def _known(values: Sequence[float]) -> bool:
    """A metric that is missing at first was never heard; one that is lost later on belongs to a loop that diverged."""
    return bool(values) and math.isfinite(values[0])
