"""PRC103: weights in half precision cannot hold the updates that the optimizer makes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field

from auditor.declare import Confidence, Finding, Inconclusive, Judgement, Measured, Options, Severity, rule
from auditor.evidence import FullPrecision, LostUpdates, LowPrecision, RemedyKind
from auditor.paired import Comparison, compare, untrue
from auditor.series import middle

from ..symptoms import NOT_LEARNING
from ..words import count, number, percent


class Limits(Options):
    max_lost_share: float = Field(
        0.75,
        gt=0,
        lt=1,
        description="Largest share of the elements that a step may leave as they are against its will.",
    )
    min_stuck_share: float = Field(
        0.6, gt=0.4, lt=1, description="Share of the elements still unchanged after many steps that proves a loss."
    )
    min_tested: int = Field(
        200, ge=1, description="Elements that have to move far enough in float32 to tell, in at least one look."
    )
    min_agreement: float = Field(
        0.95, gt=0, le=1, description="Least share of elements in which a copy's step has to equal the real one."
    )
    min_harmful_share: float = Field(
        0.1, gt=0, lt=1, description="Least share of elements left as they are, where replays show that it does harm."
    )
    min_gain: float = Field(
        0.3, gt=0, lt=1, description="Share of the end loss that weights in float32 remove, for a warning."
    )
    min_slight_gain: float = Field(0.1, gt=0, lt=1, description="The same for a note.")
    max_p_value: float = Field(0.01, gt=0, lt=1, description="Largest p-value of the paired test.")
    min_replayed: int = Field(60, ge=12, description="Steps that a replay has to have.")
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")
    min_step: int = Field(9, ge=0, description="Step before which a look is too early: rates are often warmed up.")


@rule(
    "PRC103",
    "low-precision-lost-updates",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, "params-not-updated", "update-ratio"),
    fix="""Keep the weights in float32 and compute in bfloat16, `with torch.autocast("cuda", dtype=torch.bfloat16):`,
    or use an optimizer with float32 copies, stochastic rounding or a compensation term.""",
    references=(
        "https://arxiv.org/abs/2010.06192",
        "https://arxiv.org/abs/1710.03740",
        "https://docs.pytorch.org/docs/stable/amp.html",
    ),
    remedies=(RemedyKind.FULL_PRECISION,),
)
def low_precision_lost_updates(low: LowPrecision, full: FullPrecision | None, limits: Limits) -> Judgement:
    """Nearly all updates are rounded away, because the weights are stored in half precision.

    ## What it does

    Looks, for weights that are stored in bfloat16 or float16, at how many elements a step of the optimizer changes, of
    those that it wants to change.

    ## Why is it bad?

    bfloat16 has 8 significant bits: the number next to 1 is 1.0078. An update of less than half that distance, relative
    to the weight, changes nothing, and the next one is lost again. Small learning rates stop to train at all, and
    the loss stays where it was, with gradients that look perfectly healthy.

    ## How it is measured

    By experiment on copies, with the optimizer's own code. At a few steps the same step is taken from the same state
    on a float32 copy, which tells the elements that the optimizer wants to move. Then it is repeated, with the same
    gradient, on that copy and on one in the stored precision, until the elements have moved by more than a
    representable distance in float32. An element that has not changed by then in the stored precision is stuck: its
    updates are not delayed but lost. It fails when, in the median of the looks from step `min-step` on, the real step
    left more than `max-lost-share` of the elements unchanged and more than `min-stuck-share` are stuck (about 0 with
    float32 copies or a compensation term, up to 0.3 with stochastic rounding). At least `min-tested` elements have to
    be testable, and the copy's step has to equal the real one in `min-agreement` of the elements.

    Where fewer updates are lost, it is not known from that whether the rest is enough. So where a step leaves
    `min-harmful-share` or more of the elements unchanged, the loop is replayed with weights, updates and the model's
    computation in float32: the same first weights, batches and random numbers. Two looks that end lower by `min-gain`
    are a warning, by `min-slight-gain` a note.

    ## When it may be wrong

    - Optimizers that keep float32 copies, round stochastically or carry a compensation term move their weights over
      many steps, and pass, whatever single steps look like.
    - Weights in float32 under autocast are not in question.
    - While the learning rate is warmed up, updates are smaller than they will be; then there is no verdict.
    - A replay in float32 also computes more exactly, and goes around the recorded batches alone; what that gains is
      small beside lost updates, but it is not told apart from them.
    - The gradients of real steps differ, and single large ones may get through. A program with a lost share just above
      the limit still learns, slowly.

    ## How to fix

    ```python
    model = model.float()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
    ```
    """
    looks = [look for look in low.looks if look.step >= limits.min_step]
    if not looks:
        last = max((look.step for look in low.looks), default=0)
        raise Inconclusive(f"needs a look at step {limits.min_step} or later, the last was at step {last}")
    clear = [look for look in looks if _shares(look) and look.tested >= limits.min_tested]
    if not clear:
        raise Inconclusive(
            f"in {max(look.repeats for look in looks)} steps too few elements would have moved by a representable "
            "distance, even in float32, to tell lost updates from delayed ones"
        )
    if middle([look.agreement for look in clear]) < limits.min_agreement:
        raise Inconclusive("the optimizer's step on a copy of its weights did not repeat the real step")
    stuck = middle([look.stuck for look in clear])
    unchanged = middle([look.unchanged for look in clear])
    account = f"{percent(unchanged)} of the elements that a step should change stay as they are"
    if stuck <= limits.min_stuck_share:
        account += ", but many steps change them" if unchanged > limits.max_lost_share else ""
        yield Measured(min(unchanged, limits.max_lost_share), limits.max_lost_share, account)
    else:
        yield Measured(unchanged, limits.max_lost_share, account)
    if stuck <= limits.min_stuck_share or unchanged <= limits.max_lost_share:
        if not low.rising_rate and unchanged >= limits.min_harmful_share:
            yield from _harmful(low, full, unchanged, limits)
        return
    if low.rising_rate:
        raise Inconclusive("the learning rate is still rising, and updates with it")
    yield _finding(low, clear, unchanged, limits)


def _harmful(low: LowPrecision, full: FullPrecision | None, unchanged: float, limits: Limits) -> Judgement:
    """Not nearly all updates are lost, but so many that the loss ends higher for it."""
    if full is None or untrue(full.fidelity, limits.max_fidelity):
        return
    looks = [look for look in map(compare, full.looks) if look.steps >= limits.min_replayed]
    if len(looks) < 2 or not all(_lower(look, limits) for look in looks):
        return
    shown, large = looks[0], all(look.gain >= limits.min_gain for look in looks)
    yield Finding(
        message=(
            f"a step of {low.optimizer} leaves {percent(unchanged)} of the weights that it should change as they were, "
            f"because they are stored in {low.dtype}; with float32 the loss after {count(shown.steps, 'step')} is "
            f"{number(shown.treated_end)} instead of {number(shown.control_end)}"
        ),
        where=low.optimizer,
        location=low.dtype_location or low.location,
        measured=unchanged,
        limit=limits.min_harmful_share,
        severity=Severity.WARNING if large else Severity.NOTE,
        confidence=Confidence.CONFIRMED,
        detail=tuple(
            f"look {place}: loss {number(look.control_end)} as it is, {number(look.treated_end)} in float32, from "
            f"{number(look.first)} (p = {number(look.p_value)})"
            for place, look in enumerate(looks, 1)
        ),
    )


def _lower(look: Comparison, limits: Limits) -> bool:
    return look.gain >= limits.min_slight_gain and look.p_value <= limits.max_p_value and not look.treated_diverged


def _shares(look: LostUpdates) -> bool:
    return math.isfinite(look.stuck) and math.isfinite(look.unchanged) and math.isfinite(look.agreement)


def _finding(low: LowPrecision, looks: Sequence[LostUpdates], unchanged: float, limits: Limits) -> Finding:
    last = looks[-1]
    return Finding(
        message=(
            f"a step of {low.optimizer} leaves {percent(unchanged)} of the weights that it should change bit for bit "
            f"as they were: they are stored in {low.dtype}, and updates at a learning rate of "
            f"{number(last.learning_rate)} are rounded away"
        ),
        where=low.optimizer,
        location=low.location or low.dtype_location,
        measured=unchanged,
        limit=limits.max_lost_share,
        confidence=Confidence.CONFIRMED,
        detail=(
            f"after {count(last.repeats, 'step')} with the same gradient, taken on copies, {percent(last.stuck)} of "
            "the elements that moved in float32 have not changed",
            f"{low.elements} of the optimizer's elements ({percent(low.share)}) are stored in {low.dtype}",
        ),
    )
