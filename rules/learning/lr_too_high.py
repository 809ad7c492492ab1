"""FIT102: the learning rate is too high for this program."""

from __future__ import annotations

from collections.abc import Sequence

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
from auditor.evidence import LowerRate, RateAhead, RateSweep, Remedy, RemedyKind
from auditor.paired import Comparison, compare, settles, untrue
from auditor.series import middle

from ..symptoms import NOT_LEARNING, UNSTABLE
from ..words import count, number, percent


class Limits(Options):
    min_gain: float = Field(
        0.4, gt=0, lt=1, description="Share of your end loss that the lower rate has to remove. Healthy: up to 0.34."
    )
    min_slight_gain: float = Field(
        0.1, gt=0, lt=1, description="The same in both looks, for a note where your rate does make progress."
    )
    min_fall: float = Field(
        0.1, gt=0, lt=1, description="A loss that falls by this share at your rate is making progress: no error."
    )
    min_far_gain: float = Field(
        0.05, gt=0, lt=1, description="Share of your end loss that a sixteenth of your rate removes in a longer look."
    )
    min_agreeing: int = Field(3, ge=2, description="Looks, near and longer ones together, that favour the lower rate.")
    max_p_value: float = Field(0.01, gt=0, lt=1, description="Largest p-value of the paired test.")
    max_rise: float = Field(
        0.2,
        gt=0,
        description="Share by which the loss may end higher at a rate that the schedule has yet to reach.",
    )
    min_steps: int = Field(12, ge=6, description="Steps that a look has to have.")
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")


@rule(
    "FIT102",
    "lr-too-high",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, *UNSTABLE, "update-ratio"),
    fix="""Lower the learning rate, `optimizer = torch.optim.SGD(model.parameters(), lr=lr / 4)`, or warm it up over
    the first steps if the schedule needs that height.""",
    references=(
        "https://arxiv.org/abs/1506.01186",
        "https://arxiv.org/abs/2103.00065",
        "https://arxiv.org/abs/1803.02021",
    ),
    remedies=(
        (RemedyKind.RATE, 0.25),
        (RemedyKind.CLIP, 1.0),
    ),
)
def lr_too_high(lower: LowerRate, sweep: RateSweep | None, ahead: RateAhead | None, limits: Limits) -> Judgement:
    """The learning rate is too high: the loss stalls or diverges, and falls at a lower rate.

    ## What it does

    Replays the loop from the same weights on the same batches with the same random numbers, once at your learning rate
    and once at a quarter of it, and compares the losses. It does so twice, on different batches.

    ## Why is it bad?

    A step that is too long lands on the other side of the valley, or outside of it. The loss jumps about, stays where
    it was, or becomes NaN; units die and do not come back. Everything else about the run may be right.

    ## How it is measured

    By experiment, with your program as its own control. It fails when

    - at your rate the loss makes no progress (it is not finite, or falls by less than `min-fall`), and
    - at the lower rate it ends lower by at least `min-gain`, significantly by a paired Wilcoxon test, and
    - the second look does not speak against it.

    Where your rate does make progress, but the first look favours the lower one, two longer looks follow, at a
    sixteenth of your rate. A rate that suits a program is far ahead of that: in 240 steps it goes where the other takes
    thousands. It is a warning when the sixteenth ends lower in them all the same, by `min-far-gain`, significantly, and
    `min-agreeing` looks in all favour a lower rate. A script that lowers its rate as it goes gets one more replay, in
    which the rate comes down to zero over the same steps: where that ends no higher than the sixteenth, it passes.

    It is a note when your rate makes progress, and the lower one is ahead all the same in both looks, by
    `min-slight-gain`: within so few steps a lower rate is behind in nearly all healthy programs.

    A schedule that keeps rising until the loop's plan ends, to several times of what was seen, is asked for the rate
    that it will reach. It is a warning when, in replays, a rate that rises there makes the loss end higher than the
    rate of today does, by `max-rise`, and no lower than it was before the rise, significantly and in two looks.

    A loss that is not finite at your rate, while it falls at the lower one, decides by itself. If your rate does make
    progress, but both looks are far better at the lower one *and* a sweep over rates diverges at or below yours, that
    is a warning. The sweep otherwise only explains: it names the rate at which the loss fell fastest.

    ## When it may be wrong

    - A lower rate is sometimes better within a few steps in healthy programs too (2 of 64, by up to a third). So your
      rate has to fail besides.
    - Training at the edge of stability, catapults and spikes during warm-up recover: a loss that falls passes.
    - Averaging over noise makes a lower rate end a little lower once a loss has come to rest. That takes the lower rate
      as many more steps as it is lower: a program that both rates have finished within 240 steps may be warned of.
    - A large constant (`lr=1.0` in Adadelta, 20 under clipping) means nothing by itself, and is not looked at.
    - With one look only, the finding is a warning.
    - Where both arms stall, something else is wrong, and this rule passes.

    ## How to fix

    ```python
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.05, total_iters=500)  # warm-up
    ```
    """
    if untrue(lower.fidelity, limits.max_fidelity):
        raise Inconclusive(
            f"the replay of your own loop gave other losses than were observed (off by "
            f"{percent(lower.fidelity or 0.0)}), so a comparison would prove nothing"
        )
    looks = [look for look in map(compare, lower.looks) if look.steps >= limits.min_steps]
    if not looks:
        most = max((min(len(look.control), len(look.treated)) for look in lower.looks), default=0)
        raise Inconclusive(f"needs {limits.min_steps} replayed steps, saw {most}")
    shown = next((look for look in looks if look.start == "initial"), looks[0])
    yield Measured(shown.gain, limits.min_gain, _ends(shown, lower))
    decisive = [look for look in looks if _decisive(look, limits)]
    better = [look for look in looks if _better(look, limits)]
    failing = [look for look in better if look.start == shown.start and _no_progress(look, limits)]
    beyond = sweep is not None and sweep.diverged_at is not None and sweep.user_rate >= sweep.diverged_at
    if decisive:
        yield _finding(decisive[0], looks, lower, sweep, limits, sure=True)
    elif failing and not any(_against(look, limits) for look in looks):
        yield _finding(failing[0], looks, lower, sweep, limits, sure=len(looks) > 1)
    elif len(looks) > 1 and len(better) == len(looks) and beyond:
        yield _finding(shown, looks, lower, sweep, limits, sure=True, severity=Severity.WARNING)
    elif overtaken := _overtaken(lower, looks, limits):
        yield _overtaken_finding(overtaken, lower, limits)
    elif all(look.control_diverged and look.treated_diverged for look in looks):
        yield from _both_diverged(looks[0], looks, lower, sweep, limits)
    elif ahead is not None and _runs_away(ahead, limits):
        yield _ahead_finding(ahead, limits)
    elif len(looks) > 1 and all(_slightly_better(look, limits) for look in looks) and not lower.comes_down:
        yield _finding(shown, looks, lower, sweep, limits, sure=True, severity=Severity.NOTE)


def _ends(look: Comparison, lower: LowerRate) -> str:
    return (
        f"loss {number(look.control_end)} after {count(look.steps, 'step')} at your rate, {number(look.treated_end)} "
        f"at {number(lower.factor)} times it, from {number(look.first)}"
    )


def _better(look: Comparison, limits: Limits) -> bool:
    """The lower rate is clearly better, and really learns."""
    clear = look.gain >= limits.min_gain and look.p_value <= limits.max_p_value
    return clear and not look.treated_diverged and look.treated_fall > limits.min_fall


def _slightly_better(look: Comparison, limits: Limits) -> bool:
    """Ahead within few steps, which is when a lower rate is behind by nature."""
    ahead = look.gain >= limits.min_slight_gain and look.p_value <= limits.max_p_value
    return ahead and not look.treated_diverged and look.treated_fall > limits.min_fall


def _no_progress(look: Comparison, limits: Limits) -> bool:
    return look.control_diverged or look.control_fall < limits.min_fall


def _decisive(look: Comparison, limits: Limits) -> bool:
    return look.control_diverged and not look.treated_diverged and look.treated_fall > limits.min_fall


def _against(look: Comparison, limits: Limits) -> bool:
    """Your rate learns as well in this look. Where both arms stand still (all units dead), a look says nothing.

    A look that the time budget cut short is asked for all that your own rate did.
    """
    return not _better(look, limits) and min(look.control_fall, look.whole_control_fall) >= limits.min_fall


def _overtaken(lower: LowerRate, looks: Sequence[Comparison], limits: Limits) -> list[Comparison]:
    """The longer looks, where a rate far below yours ends lower in all of them, and enough looks agree; else none."""
    far = [compare(look) for look in lower.far_looks]
    near = [look for look in looks if look.gain > 0 and look.p_value <= limits.max_p_value]
    better = [
        look
        for look in far
        if look.gain >= limits.min_far_gain
        and look.p_value <= limits.max_p_value
        and not look.treated_diverged
        and look.treated_fall > limits.min_fall
    ]
    if lower.comes_down and not lower.annealed:
        return []  # what the schedule will make of it is not known
    if settles(lower, limits.min_far_gain, limits.max_p_value):
        return []
    return far if len(better) == len(far) and far and len(near) + len(better) >= limits.min_agreeing else []


def _overtaken_finding(far: Sequence[Comparison], lower: LowerRate, limits: Limits) -> Finding:
    shown = far[0]
    return Finding(
        message=(
            f"learning rate {number(lower.learning_rate)}: the loss is {number(shown.control_end)} "
            f"after {count(shown.steps, 'step')}, and {number(shown.treated_end)} at {number(lower.far_factor)} times "
            f"that rate, which would lag far behind a rate that suits, on the same batches from the same weights"
        ),
        where=lower.optimizer,
        location=lower.location,
        measured=shown.gain,
        limit=limits.min_far_gain,
        severity=Severity.WARNING,
        confidence=Confidence.CONFIRMED,
        detail=tuple(
            f"look {place}: loss {number(look.control_end)} at your rate, {number(look.treated_end)} at "
            f"{number(lower.far_factor)} times it, from {number(look.first)} (p = {number(look.p_value)})"
            for place, look in enumerate(far, 1)
        ),
        fix=f"Lower the learning rate: `lr={number(lower.learning_rate * lower.factor)}`, or let it decay.",
        remedies=(_slower(lower, lower.factor), _slower(lower, lower.far_factor)),
    )


def _both_diverged(
    shown: Comparison, looks: Sequence[Comparison], lower: LowerRate, sweep: RateSweep | None, limits: Limits
) -> Judgement:
    """Even the lower rate diverges: only a sweep that fell at still lower rates can blame the rate."""
    if sweep is None or sweep.diverged_at is None or not sweep.diverged_at <= sweep.user_rate * lower.factor:
        raise Inconclusive("the loss is not finite at your rate and not at the lower one either; see nonfinite-loss")
    if sweep.suggested is None:
        raise Inconclusive("the loss diverges at every rate tried; see nonfinite-loss")
    yield _finding(shown, looks, lower, sweep, limits, sure=True)


def _finding(
    shown: Comparison,
    looks: Sequence[Comparison],
    lower: LowerRate,
    sweep: RateSweep | None,
    limits: Limits,
    *,
    sure: bool,
    severity: Severity | None = None,
) -> Finding:
    suggested = lower.learning_rate * lower.factor
    detail = [f"from {look.start} weights: {_ends(look, lower)} (p = {number(look.p_value)})" for look in looks]
    if sweep is not None:
        if sweep.diverged_at is not None:
            detail.append(f"in a sweep the loss left its range at a rate of {number(sweep.diverged_at)}")
        if sweep.suggested is not None and 0 < sweep.suggested < sweep.user_rate:
            detail.append(f"it fell fastest at {number(sweep.suggested)}")
            suggested = min(suggested, sweep.suggested)
    return Finding(
        message=(
            f"learning rate {number(lower.learning_rate)}: the loss is {number(shown.control_end)} "
            f"after {count(shown.steps, 'step')}, and {number(shown.treated_end)} at {number(lower.factor)} times that "
            f"rate, on the same batches from the same weights (start {number(shown.first)})"
        ),
        where=lower.optimizer,
        location=lower.location,
        measured=shown.gain,
        limit=limits.min_gain,
        severity=severity or (Severity.ERROR if sure else Severity.WARNING),
        confidence=Confidence.CONFIRMED if sure else Confidence.SUSPECTED,
        detail=tuple(detail),
        fix=f"Lower the learning rate: `lr={number(suggested)}`, or warm it up if the schedule needs its height.",
        remedies=_remedies(lower, suggested),
    )


def _runs_away(ahead: RateAhead, limits: Limits) -> bool:
    """The loss goes back up where the schedule will go, in two looks."""
    looks = list(map(compare, ahead.looks))
    before = [middle(look.treated[: len(look.treated) // 4][-12:]) for look in ahead.looks]
    worse = [
        not look.treated_diverged
        and (look.control_diverged or (look.gain >= _share(limits.max_rise) and look.p_value <= limits.max_p_value))
        and look.control_end >= level
        for look, level in zip(looks, before, strict=True)
    ]
    return len(worse) > 1 and all(worse) and not untrue(ahead.fidelity, limits.max_fidelity)


def _share(rise: float) -> float:
    """A rise of one value by that share, as a share of the risen one."""
    return rise / (1 + rise)


def _ahead_finding(ahead: RateAhead, limits: Limits) -> Finding:
    shown = compare(ahead.looks[0])
    return Finding(
        message=(
            f"{ahead.schedule} raises the rate until the loop ends, from {number(ahead.learning_rate)} so far "
            f"to {number(ahead.peak)} in {count(ahead.calls, 'more call')}; there the loss ends at "
            f"{number(shown.control_end)}, at the rate of today at {number(shown.treated_end)}"
        ),
        where=ahead.optimizer,
        location=ahead.location,
        measured=shown.gain,
        limit=_share(limits.max_rise),
        severity=Severity.WARNING,
        confidence=Confidence.CONFIRMED,
        detail=tuple(
            f"look {place}: loss {number(look.control_end)} at a rate that rises there, {number(look.treated_end)} at "
            f"{number(ahead.learning_rate)} (p = {number(look.p_value)})"
            for place, look in enumerate(map(compare, ahead.looks), 1)
        ),
        fix="End the warm-up: a factor of `min(1.0, (step + 1) / warmup_steps)` stays at the rate that was meant.",
        remedies=(Remedy(kind=RemedyKind.HOLD_RATE, site=ahead.location),),
    )


def _remedies(lower: LowerRate, suggested: float) -> tuple[Remedy, ...]:
    """A quarter of the rate first, which the experiment has tried; then what the sweep suggests, or less still."""
    further = lower.factor * lower.factor
    if 0 < suggested < lower.learning_rate * lower.factor:
        further = suggested / lower.learning_rate
    return (
        _slower(lower, lower.factor),
        _slower(lower, float(f"{further:.2g}")),
        Remedy(kind=RemedyKind.CLIP, amount=1.0, site=lower.location),
    )


def _slower(lower: LowerRate, factor: float) -> Remedy:
    return Remedy(kind=RemedyKind.RATE, amount=factor, site=lower.location)
