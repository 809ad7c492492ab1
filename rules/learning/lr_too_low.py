"""FIT103: the learning rate is far too low for this program."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic import Field

from auditor.declare import (
    Confidence,
    Finding,
    Inconclusive,
    Judgement,
    Measured,
    NotApplicable,
    Options,
    Severity,
    rule,
)
from auditor.evidence import (
    HigherRate,
    InitialLoss,
    PairedReplay,
    RateLook,
    Remedy,
    RemedyKind,
    Schedules,
    Trajectory,
    Updates,
)
from auditor.paired import compare, untrue
from auditor.series import finite, middle

from ..symptoms import NOT_LEARNING
from ..words import count, number, percent


class Limits(Options):
    max_share: float = Field(
        0.15, gt=0, lt=1, description="Share of the fall at the higher rate that yours may have at most."
    )
    min_fall: float = Field(
        0.1, gt=0, lt=1, description="How much lower the loss has to end at the higher rate, as a share."
    )
    min_ratio: float = Field(
        2.0, gt=1, description="Times as far as at yours that the loss falls at a quarter of the higher rate."
    )
    max_update_ratio: float = Field(
        1e-4, gt=0, description="Median update-to-weight ratio above which steps are no tiny ones: a note at most."
    )
    usual_update_ratio: float = Field(
        1e-3,
        gt=0,
        description="Median update-to-weight ratio from which on nothing is reported.",
    )
    min_fall_of_note: float = Field(
        0.3, gt=0, lt=1, description="The same as `min_fall` where the steps are no tiny ones."
    )
    long_run: float = Field(
        10.0, gt=1, description="Times the steps that yours takes for it; with as many planned there is no note."
    )
    max_p_value: float = Field(0.01, gt=0, lt=1, description="Largest p-value of the paired test.")
    min_steps: int = Field(20, ge=6, description="Steps that a look has to have.")
    min_looks: int = Field(
        2, ge=1, description="Looks, on other batches with other random numbers, that have to agree."
    )
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")


@rule(
    "FIT103",
    "lr-too-low",
    severity=Severity.WARNING,
    explains=(*NOT_LEARNING, "update-ratio", "vanishing-gradients"),
    fix="""Raise the learning rate tenfold and look again: `torch.optim.Adam(model.parameters(), lr=10 * lr)`.""",
    references=(
        "https://arxiv.org/abs/1506.01186",
        "https://cs231n.github.io/neural-networks-3/",
        "https://arxiv.org/abs/1803.09820",
    ),
    remedies=((RemedyKind.RATE, 16.0),),
)
def lr_too_low(
    higher: HigherRate,
    updates: Updates | None,
    initial: InitialLoss | None,
    trajectory: Trajectory | None,
    schedules: Schedules | None,
    limits: Limits,
) -> Judgement:
    """The learning rate is so low that the loss hardly moves, and falls in proportion at higher ones.

    ## What it does

    Where the loss has hardly come down in the probe, it replays the loop from the same weights on the same batches with
    the same random numbers at sixteen times the learning rate (256 times, where that is not enough), at a quarter of
    that and at rate zero, twice, and compares how far the loss falls.

    ## Why is it bad?

    Nothing is broken, so nothing is noticed: the loss falls all the time, only a hundred times slower than it could.
    The run ends before it has learned what the model could, or costs many times what it had to.

    ## How it is measured

    By experiment, with your program as its own control. How far a rate has come is told from where the loss stays at
    rate zero on the same batches: the first losses are those of other batches, and differ by more than a low rate moves
    them. In short probes a higher rate is better in most healthy programs too, so much is asked for: at the higher rate
    the loss ends lower than at yours by at least `min-fall` of it, significantly by a paired test, while yours makes at
    most `max-share` of that way; at a quarter of it, it falls `min-ratio` times as far as at yours; and your steps
    change the weights by less than `max-update-ratio` of their size. All that in `min-looks` looks, on other batches
    and with other random numbers.

    It is a note where your steps are larger than that and still smaller than `usual-update-ratio`, and the loss ends
    lower by at least `min-fall-of-note`. A long run comes there at your rate as well: where the loop plans `long-run`
    times the steps that yours takes for it, if the loss falls in proportion, nothing is reported.

    ## When it may be wrong

    - Fine-tuning with a deliberately small rate does not count: with loaded weights the rule does not apply.
    - While the rate is still rising (warm-up), or where the schedule is going to raise it, the rule is inconclusive;
      the highest rate seen so far is the one replayed.
    - Where the source does not say how long the run is, it may be long enough for a low rate. The note says how many
      steps yours takes, if the loss falls in proportion, for what the higher one does in the probe.
    - Over a longer time the higher rate may turn out unstable; this is a warning, and the sweep shows where that
      begins.

    ## How to fix

    ```python
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)    # from 1e-6
    ```
    """
    if initial is not None and initial.pretrained:
        raise NotApplicable("the model starts from loaded weights, for which a small rate may be meant")
    if untrue(higher.fidelity, limits.max_fidelity):
        raise Inconclusive(f"the replay differs from the observed run by {percent(higher.fidelity or 0.0)}")
    looks = [_look(look) for look in higher.looks if len(look.control) >= limits.min_steps]
    if not looks:
        raise Inconclusive(f"needs {limits.min_steps} replayed steps")
    shown = looks[0]
    yield Measured(shown.share, limits.max_share, _story(shown))
    ratio = _update_ratio(updates)
    if ratio is not None and ratio >= limits.usual_update_ratio:
        return
    tiny = ratio is None or ratio <= limits.max_update_ratio
    if not all(_too_low(look, limits.min_fall if tiny else limits.min_fall_of_note, limits) for look in looks):
        return
    if trajectory is not None and _rising(trajectory.learning_rates):
        raise Inconclusive(f"{_story(shown)}; but the rate was still rising at the end of the probe")
    if schedules is not None and _to_rise(schedules, higher.learning_rate):
        raise Inconclusive(f"{_story(shown)}; but the schedule is going to raise the rate")
    if len(looks) < limits.min_looks:
        raise Inconclusive(f"{_story(shown)}; a second look on other batches was not taken")
    told = f"; a step changes the weights by {number(ratio)} of their size" if ratio is not None else ""
    needed = round(shown.factor * shown.steps)
    if not tiny and higher.planned_steps is not None and higher.planned_steps >= limits.long_run * needed:
        return
    plan = f" of {higher.planned_steps}" if higher.planned_steps is not None else ""
    far = "" if tiny else f"; in proportion, yours takes some {count(needed, 'step')}{plan} for that"
    yield Finding(
        message=(
            f"at {number(higher.learning_rate)} the loss goes from {number(shown.first)} to {number(shown.ends[0])} in "
            f"{count(shown.steps, 'step')}, at {number(shown.factor)} times that rate to {number(shown.ends[2])}"
            f"{told}{far}"
        ),
        severity=None if tiny else Severity.NOTE,
        where=higher.optimizer,
        location=higher.location,
        measured=shown.share,
        limit=limits.max_share,
        confidence=Confidence.CONFIRMED,
        detail=tuple(_story(look) for look in looks),
        fix=f"Raise the learning rate: `lr={number(shown.factor / 2 * higher.learning_rate)}` is a good next try.",
        remedies=tuple(
            Remedy(kind=RemedyKind.RATE, amount=factor, site=higher.location)
            for factor in (shown.factor, shown.factor / 4)
        ),
    )


@dataclass(frozen=True)
class _Look:
    """How far the loss falls at the user's own rate, at a quarter of the higher one, and at that: from where it stays
    at rate zero."""

    factor: float
    steps: int
    first: float
    ends: tuple[float, float, float]
    gain: float
    p_value: float

    @property
    def falls(self) -> tuple[float, float, float]:
        own, between, highest = (self.first - end for end in self.ends)
        return own, between, highest

    @property
    def share(self) -> float:
        """Of the fall at the higher rate, what the user's own makes."""
        best = self.falls[2]
        return max(0.0, self.falls[0] / best) if best > 0 else math.inf


def _look(look: RateLook) -> _Look:
    against = compare(PairedReplay(start="initial", control=look.control, treated=look.highest))
    between = compare(PairedReplay(start="initial", control=look.control, treated=look.between))
    rest = compare(PairedReplay(start="initial", control=look.control, treated=look.still))
    first = rest.treated_end if look.still else middle(look.control[:3])
    ends = (against.control_end, between.treated_end if look.between else math.inf, against.treated_end)
    return _Look(look.factor, against.steps, first, ends, against.gain, against.p_value)


def _too_low(look: _Look, min_fall: float, limits: Limits) -> bool:
    own, between, _ = look.falls
    if not all(map(math.isfinite, (look.first, *look.ends))):
        return False
    far = look.gain >= min_fall and look.share <= limits.max_share
    return far and between >= limits.min_ratio * max(own, 0.0) and look.p_value <= limits.max_p_value


def _story(look: _Look) -> str:
    own, between, highest = (number(end) for end in look.ends)
    quarter = f"{between} at {number(look.factor / 4)} times it, " if math.isfinite(look.ends[1]) else ""
    return f"loss {number(look.first)} to {own} at your rate, {quarter}{highest} at {number(look.factor)} times it"


def _rising(rates: tuple[float, ...]) -> bool:
    kept = finite(rates)
    return len(kept) > 4 and kept[-1] > 1.05 * kept[len(kept) // 2] and kept[-1] >= max(kept)


def _to_rise(schedules: Schedules, rate: float) -> bool:
    return any(max(schedule.ahead, default=0.0) > 1.05 * rate for schedule in schedules.schedules)


def _update_ratio(updates: Updates | None) -> float | None:
    """Median over layers of their median ratio, None where none was measured."""
    ratios = [middle(layer.ratios) for layer in updates.layers if finite(layer.ratios)] if updates is not None else []
    found = middle(ratios)
    return found if math.isfinite(found) else None
