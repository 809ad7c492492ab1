"""LOS108: training follows a penalty instead of the data."""

from __future__ import annotations

import math

from pydantic import Field

from auditor.declare import (
    Confidence,
    Finding,
    Inconclusive,
    Judgement,
    Measured,
    Options,
    Severity,
    rule,
)
from auditor.evidence import PenaltyOff, Remedy, RemedyKind
from auditor.paired import Comparison, compare, untrue

from ..symptoms import NOT_LEARNING
from ..words import count, number, percent

LONGER = 3  # times a look: the further look at a loop that may wake up late


class Limits(Options):
    max_ratio: float = Field(
        1.0,
        gt=0,
        description="Largest norm of the penalty's gradient, over that of the data, that needs no experiment.",
    )
    min_gain: float = Field(
        0.3, gt=0, lt=1, description="Share of the data's loss that goes when the penalty is off, for a finding."
    )
    min_fall: float = Field(
        0.1, gt=0, lt=1, description="A data loss that falls by this share in spite of the penalty is making progress."
    )
    max_share: float = Field(
        0.2, gt=0, lt=1, description="Of the fall without terms beside the loss function, what the fall with them has."
    )
    max_summed: float = Field(
        100.0,
        gt=1,
        description="Largest weight of a value that is summed over the batch, over that of one averaged beside it.",
    )
    min_cost: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="The same for a decay that Adam divides by the size of the gradient, on new samples.",
    )
    min_fresh: float = Field(
        0.9, gt=0, le=1, description="Share of new samples in a look whose loss stands for that on new data."
    )
    max_told: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="Of what the targets differ in, what a loss told with terms beside it, at most,"
        " where they keep the outputs constant.",
    )
    min_told: float = Field(0.3, gt=0, lt=1, description="The same without the terms, at least.")
    max_p_value: float = Field(0.01, gt=0, lt=1, description="Largest p-value of the paired test.")
    min_steps: int = Field(12, ge=6, description="Steps that a look has to have.")
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")


@rule(
    "LOS108",
    "regularization-dominates",
    severity=Severity.WARNING,
    explains=(*NOT_LEARNING, "dead-units"),
    fix="""Lower the penalty by orders of magnitude, `weight_decay=1e-4`, or average an L1/L2 term over its weights, and
    let biases and norm layers out of it.""",
    references=(
        "https://arxiv.org/abs/1711.05101",
        "https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html",
    ),
    remedies=(RemedyKind.NO_PENALTY,),
)
def regularization_dominates(penalty: PenaltyOff, limits: Limits) -> Judgement:
    """A penalty pulls harder than the data can push.

    ## What it does

    Measures, at the first step, the gradient of the weight penalty - terms of the loss that are made of weights
    alone, and weight decay that the optimizer adds to the gradient - against the gradient of everything else. Where
    it is not small, it replays the loop without the penalty and compares the loss of the data. The same with the terms
    of the loss that stand beside torch's loss functions, such as a divergence or a smoothness of the outputs.

    ## Why is it bad?

    A sum of squares over a million weights is a large number, and a factor that suits one network is far too strong
    for a larger one; so is a sum over latents or pixels beside a mean. The total loss falls nicely, because the
    penalty falls; the data's loss stays where it was, and the network ends as a constant. With Adam, decay that is
    added to the gradient is also divided by the size of the gradient, so that it acts at full strength where the data
    hardly pushes at all.

    ## How it is measured

    By experiment, with your program as its own control: the same weights, batches and random numbers, with and
    without the penalty. It fails when the penalty's gradient is more than `max-ratio` of the data's, the data's loss
    falls by less than `min-fall` with it, and ends lower by at least `min-gain` without it, significantly by a
    paired Wilcoxon test; a second look on other batches must not speak against it. A decay that an optimizer such as
    Adam adds to the gradient, and divides with it, fails in spite of progress where both looks end lower by `min-cost`
    without it, on samples of which `min-fresh` come for the first time: it costs what the network does on new data.
    Of terms beside a loss function the
    gradient says little at the start: there, two looks have to agree, and with them the loss function may make at most
    `max-share` of the way that it makes without them. That last condition falls where the loss itself shows the reason:
    such a term is a sum over the samples of the batch, the loss function an average over samples and values, and one
    value of the sum counts more than `max-summed` times as much as one of the average. And where a loss function
    compares several numbers of each sample, as a reconstruction does, the best constant answer is the yardstick: it
    fails when with the terms at most `max-told` of what the targets differ in has been told, in both looks and in one
    three times as long (any length where sums stand beside averages), and without them `min-told` or more.

    ## When it may be wrong

    - A penalty costs some training loss: that is its purpose. A data loss that makes progress passes, however strong
      the penalty, but for that of Adam's decay on new samples.
    - Decoupled decay (AdamW) does not compete with the gradient, but with Adam's step: its pull is the decay times the
      size of the weights, over 1.
    - Auxiliary losses that are loss functions of torch themselves count as data. So do terms with data of their own,
      such as a log-probability times an advantage: they are not switched off.
    - Some models wake up late: a divergence may win at first in a sound variational autoencoder, too. Hence the longer
      look. Where the weight of a term changes during the training, replays do not go the way that was observed: passed.
    - Where the loss function is written by hand and has a penalty in it, the data's loss is not known: inconclusive.

    ## How to fix

    ```python
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    penalty = sum(p.abs().sum() for p in model.parameters() if p.dim() > 1)
    loss = criterion(model(x), y) + 1e-6 * penalty
    ```
    """
    if untrue(penalty.fidelity, limits.max_fidelity):
        raise Inconclusive("the replay of your own loop gave other losses than were observed")
    yield from _beside(penalty, limits)
    looks = [look for look in map(compare, penalty.looks) if look.steps >= limits.min_steps]
    yield Measured(
        penalty.ratio, limits.max_ratio, f"the penalty's gradient is {number(penalty.ratio)} times that of the data"
    )
    if not penalty.ratio > limits.max_ratio:
        return
    if not looks:
        most = max((min(len(look.control), len(look.treated)) for look in penalty.looks), default=0)
        raise Inconclusive(f"needs {limits.min_steps} replayed steps, saw {most}")
    better = [look for look in looks if _better(look, limits)]
    stalled = looks[0] in better and _stalls(looks[0], limits)
    harmed = _divided(penalty, limits) and len(looks) > 1 and all(_costs(look, limits) for look in looks)
    if harmed or (stalled and not any(_against(look, limits) for look in looks[1:])):
        yield _finding(looks, penalty, limits)


def _costs(look: Comparison, limits: Limits) -> bool:
    clear = look.gain >= limits.min_cost and look.p_value <= limits.max_p_value
    return clear and not look.treated_diverged and look.treated_fall >= limits.min_fall


def _divided(penalty: PenaltyOff, limits: Limits) -> bool:
    """A decay alone, which the optimizer divides by the size of the gradient; on samples that nothing has learned yet,
    where a penalty cannot have kept anything from being learned by heart."""
    return penalty.adaptive and not penalty.terms and (penalty.fresh or 0.0) >= limits.min_fresh


def _beside(penalty: PenaltyOff, limits: Limits) -> Judgement:
    """Terms beside the loss functions."""
    looks = [look for look in map(compare, penalty.auxiliary_looks) if look.steps >= limits.min_steps]
    if not looks:
        return
    told = _held_constant(penalty, limits)
    unlike = _unlike(penalty, limits)
    held_up = [look for look in looks if unlike or look.control_fall <= limits.max_share * look.treated_fall]
    if len(looks) < 2 or not (told or all(look in held_up and _better(look, limits) for look in looks)):
        return
    shown = looks[0]
    detail = [_story(look, place) for place, look in enumerate(looks, 1)]
    if unlike:
        detail.append(
            f"a term is summed over the batch, the loss function averaged: a value of the one counts as much as "
            f"{number(penalty.summed)} of the other"
        )
    detail += told
    keep = "keeps" if penalty.auxiliary == 1 else "keep"
    yield Finding(
        message=(
            f"{count(penalty.auxiliary, 'term')} beside the loss function {keep} it from falling: after "
            f"{count(shown.steps, 'step')} it is {number(shown.control_end)} with and {number(shown.treated_end)} "
            f"without ({percent(shown.gain)} less), from {number(shown.first)}"
        ),
        where="loss",
        location=penalty.loss_location or penalty.location,
        measured=shown.gain,
        limit=limits.min_gain,
        confidence=Confidence.CONFIRMED,
        detail=tuple(detail),
        fix="Weigh the term so that it is small beside the loss function, and reduce both alike: sums with sums.",
        remedies=(Remedy(kind=RemedyKind.NO_AUXILIARY, site=penalty.loss_location),),
    )


def _unlike(penalty: PenaltyOff, limits: Limits) -> bool:
    return math.isfinite(penalty.summed) and penalty.summed > limits.max_summed


def _held_constant(penalty: PenaltyOff, limits: Limits) -> list[str]:
    """With the terms the loss function never leaves the level of the best constant answer, and without them it does."""
    later = penalty.explained_later
    kept = [*(each.kept for each in penalty.explained), math.nan if later is None else later]
    without = [each.without for each in penalty.explained]
    if len(without) < 2 or not max(kept) <= limits.max_told or not min(without) >= limits.min_told or later is None:
        return []
    if penalty.later_steps < LONGER * penalty.explained[0].steps and not _unlike(penalty, limits):
        return []  # it may wake up yet
    return [
        f"of what the targets differ in, {percent(max(0.0, later))} is told after {count(penalty.later_steps, 'step')} "
        f"with it, and {percent(min(without))} after {count(penalty.explained[0].steps, 'step')} without"
    ]


def _story(look: Comparison, place: int) -> str:
    return (
        f"look {place}: data loss {number(look.control_end)} with it, {number(look.treated_end)} without, from "
        f"{number(look.first)} (p = {number(look.p_value)})"
    )


def _stalls(look: Comparison, limits: Limits) -> bool:
    return look.control_diverged or look.control_fall < limits.min_fall


def _better(look: Comparison, limits: Limits) -> bool:
    clear = look.gain >= limits.min_gain and look.p_value <= limits.max_p_value
    return clear and not look.treated_diverged and look.treated_fall >= limits.min_fall


def _against(look: Comparison, limits: Limits) -> bool:
    return not _better(look, limits) and min(look.control_fall, look.whole_control_fall) >= limits.min_fall


def _finding(looks: list[Comparison], penalty: PenaltyOff, limits: Limits) -> Finding:
    shown = looks[0]
    parts = []
    if penalty.terms:
        parts.append(f"{count(penalty.terms, 'term')} of the loss")
    if penalty.weight_decay:
        parts.append(f"weight_decay={number(penalty.weight_decay)}")
    what = " and ".join(parts) or "the penalty"
    detail = [_story(look, place) for place, look in enumerate(looks, 1)]
    return Finding(
        message=(
            f"the pull of {what} on the weights is {number(penalty.ratio)} times that of the data: after "
            f"{count(shown.steps, 'step')} the loss of the data is {number(shown.control_end)} with it and "
            f"{number(shown.treated_end)} without it ({percent(shown.gain)} less)"
        ),
        where=penalty.optimizer if penalty.weight_decay and not penalty.terms else "loss",
        location=(penalty.loss_location if penalty.terms else penalty.location) or penalty.location,
        measured=penalty.ratio,
        limit=limits.max_ratio,
        confidence=Confidence.CONFIRMED if len(looks) > 1 else Confidence.SUSPECTED,
        detail=tuple(detail),
        # Which terms of the loss are penalties cannot be read off a line.
        remedies=(Remedy(kind=RemedyKind.NO_PENALTY, subject="loss" if penalty.terms else "", site=penalty.location),),
    )
