"""Trials of remedies: which are worth their steps, and what came of those that were made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from auditor.declare import Severity
from auditor.evidence import Evidence, Metric, PairedReplay, Remedy, RemedyKind, TrialRun
from auditor.evidence.trials import keys
from auditor.paired import Comparison, compare
from auditor.remedywords import describe
from auditor.result import Audit, ReportedFinding, Trial
from auditor.series import tail
from auditor.spec import Requests, TrialRequest

MOST_AT_ONCE = 4  # requests of one round
MOST = 12  # of all rounds
MOST_TOGETHER = 3  # remedies of other faults that one is tried on top of
MIN_GAIN = 0.1  # share of the end level that a remedy has to remove
MIN_GAIN_STUCK = 0.04  # the same where the loop as it is does not get below the start; as rules with experiments ask
MAX_P_VALUE = 0.01
MOST_LEFT = 0.01  # share of the influence of other samples that may be left: there is none where they are apart
EXACT = ("error of the reported figure",)
UNORDERED = ("error of the held-out loss",)  # of pairs of batches, all from the same weights


def wanted(audit: Audit) -> Requests:
    """The remedies to try next: of each finding the best one that was not tried yet, until one has helped. Then what
    did not help alone, on top of what did help against other faults: one of several may hide what the others do.

    A finding that another one causes waits for what comes of the cause's remedies.
    """
    room = min(MOST_AT_ONCE, MOST - (len(audit.evidence.trials.runs) if audit.evidence.trials else 0))
    done = {run.key for run in made(audit.evidence)}
    asked: dict[tuple[object, ...], TrialRequest] = {}
    waiting: set[str] = set()
    for finding in audit.findings:
        if finding.severity is Severity.NOTE or finding.caused_by in waiting or _is_answered(finding, audit):
            continue
        for candidate in (*candidates(finding.fix.remedies), *_on_top(finding, audit)):
            run = TrialRun(remedies=candidate.remedies, base=candidate.base)
            if run.key not in done:
                asked.setdefault(run.key, candidate)
                waiting.add(finding.rule)
                break
    return Requests(trials=tuple(asked.values())[: max(0, room)])


def _is_answered(finding: ReportedFinding, audit: Audit) -> bool:
    """A remedy of its own helped, or one of what causes it."""
    causes = {finding.rule, finding.caused_by}
    return any(other.rule in causes and _helping(other) for other in audit.findings)


def _helping(finding: ReportedFinding) -> tuple[Remedy, ...]:
    """What helped against it, without what it was tried on top of."""
    return finding.fix.tried if finding.fix.trial is not None and finding.fix.trial.helped else ()


def candidates(remedies: Sequence[Remedy]) -> list[TrialRequest]:
    """What answers one finding: each remedy by itself, then the first two of different kinds together."""
    alone = [TrialRequest(remedies=(remedy,)) for remedy in remedies]
    other = next((remedy for remedy in remedies if remedy.kind is not remedies[0].kind), None)
    return [*alone, TrialRequest(remedies=(remedies[0], other))] if other is not None else alone


def _on_top(finding: ReportedFinding, audit: Audit) -> list[TrialRequest]:
    """Its first remedy, where the others' faults are cured."""
    cured = [_helping(other) for other in audit.findings if other.caused_by is None and other.rule != finding.rule]
    base = {remedy.key: remedy for remedies in cured for remedy in remedies}
    if not base or not finding.fix.remedies or finding.caused_by is not None:
        return []
    return [TrialRequest(remedies=finding.fix.remedies[:1], base=tuple(base.values())[:MOST_TOGETHER])]


@dataclass(frozen=True)
class Tried:
    """What came of a finding's remedies: the trials, the best first, what the best one consisted of, and why nothing
    was tried where that is so."""

    trials: tuple[Trial, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    refused: str = ""


def tried(remedies: Sequence[Remedy], evidence: Evidence) -> Tried:
    """Everything that was tried of these remedies."""
    own = {keys(candidate.remedies) for candidate in candidates(remedies)}
    runs = [run for run in made(evidence) if keys(run.remedies) in own]
    judged = [(result(run), run) for run in runs if run.looks]
    judged.sort(key=lambda pair: (not pair[0].helped, len(pair[1].base), -_improvement(pair[0])))
    if not judged:
        return Tried(refused=_refused(runs))
    best = {remedy.key for remedy in judged[0][1].remedies}
    return Tried(tuple(trial for trial, _ in judged), tuple(remedy for remedy in remedies if remedy.key in best))


def _refused(runs: Sequence[TrialRun]) -> str:
    """Why none of them could be tried; of several reasons, which remedy each is about."""
    reasons = {run.refused: describe(run.remedies) for run in reversed(runs) if run.refused and len(run.remedies) == 1}
    reasons = reasons or {run.refused: "" for run in runs if run.refused}
    if len(reasons) < 2:
        return next(iter(reasons), "")
    return "; ".join(f"{what}: {reason}" for reason, what in reversed(reasons.items()))


def made(evidence: Evidence) -> list[TrialRun]:
    """All trials of an audit: some experiments are what a trial of their remedy would be."""
    found: list[TrialRun] = []

    def add(
        kind: RemedyKind, looks: Sequence[PairedReplay], amount: float | None = None, metric: Metric = "loss"
    ) -> None:
        if looks:
            found.append(TrialRun(remedies=(Remedy(kind=kind, amount=amount),), looks=tuple(looks), metric=metric))

    if evidence.lower_rate is not None:
        add(RemedyKind.RATE, evidence.lower_rate.looks, evidence.lower_rate.factor)
    if evidence.higher_rate is not None and len({look.factor for look in evidence.higher_rate.looks}) == 1:
        looks = [_pair(look.control, look.highest) for look in evidence.higher_rate.looks]
        add(RemedyKind.RATE, looks, evidence.higher_rate.looks[0].factor)
    if evidence.standardized_inputs is not None:
        add(RemedyKind.STANDARDIZE_INPUTS, evidence.standardized_inputs.looks)
    if evidence.standardized_targets is not None:
        add(RemedyKind.STANDARDIZE_TARGETS, evidence.standardized_targets.looks)
    if evidence.reinitialized is not None:
        add(RemedyKind.REINITIALIZE, evidence.reinitialized.looks)
    if evidence.penalty_off is not None:
        add(RemedyKind.NO_PENALTY, evidence.penalty_off.looks, metric="loss of the data")
        add(RemedyKind.NO_AUXILIARY, evidence.penalty_off.auxiliary_looks, metric="loss of the data")
    if evidence.class_weighted is not None:
        looks = [_pair(*(_wrong(arm) for arm in (evidence.class_weighted.control, evidence.class_weighted.weighted)))]
        add(RemedyKind.CLASS_WEIGHTS, looks, metric="balanced error rate")
    for site in evidence.comparisons.broadcast if evidence.comparisons is not None else ():
        look = PairedReplay(start="later", control=site.errors, treated=(0.0,) * len(site.errors))
        remedies = (Remedy(kind=RemedyKind.PAIRED_METRIC, site=site.location),)
        if site.errors:
            found.append(TrialRun(remedies=remedies, looks=(look,), metric="error of the reported figure"))
    if evidence.divided_accumulation is not None:
        add(RemedyKind.DIVIDE_LOSS, evidence.divided_accumulation.looks, float(evidence.divided_accumulation.per_step))
    if evidence.order_control is not None:
        add(RemedyKind.SHUFFLE, [_pair(evidence.order_control.natural, evidence.order_control.mixed)])
    return [*found, *(evidence.trials.runs if evidence.trials else ())]


def _wrong(accuracies: Sequence[float]) -> tuple[float, ...]:
    return tuple(1 - share for share in accuracies)


def _pair(control: tuple[float, ...], treated: tuple[float, ...]) -> PairedReplay:
    return PairedReplay(start="initial", control=control, treated=treated)


def result(run: TrialRun) -> Trial:
    """Judge one trial. It helped when the metric ends lower by a tenth in every look, by a paired Wilcoxon test at
    1 %; by MIN_GAIN_STUCK where two looks agree and the loss does not come down without it. A loop that diverges as it
    is, and learns with the remedy, decides by itself. Figures that are worked out anew from the same values, without
    chance, need no test; of a held-out loss, any error that the test confirms is one too many."""
    comparisons = [compare(look, run.metric in UNORDERED) for look in run.looks]
    exact = run.metric in EXACT and all(map(_corrected, run.looks))
    low, high = interval(run.looks, run.metric in UNORDERED)
    shown = run.looks[0]
    return Trial(
        metric=run.metric,
        steps=comparisons[0].steps,
        before=comparisons[0].control_end,
        after=comparisons[0].treated_end,
        helped=exact or all(_helped(each, run) for each in comparisons),
        low=low,
        high=high,
        what=describe(run.remedies, run.base),
        looks=len(run.looks),
        control=shown.control,
        treated=shown.treated,
    )


def _corrected(look: PairedReplay) -> bool:
    """Every figure was off, and none is."""
    return bool(look.control) and all(value > 0 for value in look.control) and not any(look.treated)


def _helped(look: Comparison, run: TrialRun) -> bool:
    if look.treated_diverged:
        return False
    if run.metric == "influence of other samples" and not look.treated_end <= MOST_LEFT * look.control_end:
        return False
    if look.control_diverged:
        return look.treated_fall > 0
    if run.metric in UNORDERED:
        return look.control_end > 0 and look.p_value <= MAX_P_VALUE
    stuck = look.stuck and len(run.looks) > 1 and run.metric.startswith("loss")
    return look.gain >= (MIN_GAIN_STUCK if stuck else MIN_GAIN) and look.p_value <= MAX_P_VALUE


def _improvement(trial: Trial) -> float:
    """Share of the level that is gone."""
    if not math.isfinite(trial.after):
        return -math.inf
    if not math.isfinite(trial.before):
        return math.inf
    scale = max(abs(trial.before), abs(trial.after))
    return (trial.before - trial.after) / scale if scale else 0.0


def interval(looks: Sequence[PairedReplay], whole: bool = False) -> tuple[float | None, float | None]:
    """95 % interval of the paired difference, treated less control, over the last third of each look, or the whole.

    The signed-rank interval around the Hodges-Lehmann estimate, which a few steps of a loop that blows up do not move
    (Hollander and Wolfe, Nonparametric Statistical Methods, 3.4). It is wider where neighbouring differences are alike,
    by the root of how many steps count as one (effective sample size of a first-order autoregression, Bayley and
    Hammersley 1946, doi 10.2307/2983560). None where an arm did not stay finite, or where there are too few steps.
    """
    parts: list[list[float]] = []
    for look in looks:
        steps = min(len(look.control), len(look.treated))
        pairs = zip(look.control[:steps], look.treated[:steps], strict=True)
        differences = [treated - control for control, treated in pairs]
        parts.append(differences if whole else list(tail(differences)))
    every = [value for part in parts for value in part]
    if not every or not all(math.isfinite(value) for value in every):
        return None, None
    count = len(every)
    averages = sorted((every[i] + every[j]) / 2 for i in range(count) for j in range(i + 1))
    alike = _correlation(parts)
    spread = math.sqrt(count * (count + 1) * (2 * count + 1) / 24 * (1 + alike) / (1 - alike))
    left_out = math.floor(len(averages) / 2 - 1.96 * spread)
    return (averages[left_out], averages[-1 - left_out]) if left_out >= 0 else (None, None)


def _correlation(parts: Sequence[Sequence[float]]) -> float:
    """Of the ranks of neighbours, at lag one, from 0 to 0.95."""
    ranks = [_ranks(part) for part in parts]
    square = sum(value**2 for part in ranks for value in part)
    product = sum(a * b for part in ranks for a, b in pairwise(part))
    return max(0.0, min(0.95, product / square)) if square > 0 else 0.0


def _ranks(values: Sequence[float]) -> list[float]:
    """Centered at 0."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    for rank, place in enumerate(order):
        found[place] = rank - (len(values) - 1) / 2
    return found
