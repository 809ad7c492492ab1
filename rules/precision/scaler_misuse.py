"""PRC104: a GradScaler is called in a way that defeats it."""

from __future__ import annotations

import math

from pydantic import Field

from auditor.declare import Confidence, Finding, Inconclusive, Judgement, Measured, Options, Severity, rule
from auditor.evidence import RemedyKind, ScaleChange, ScalerUse

from ..symptoms import NOT_LEARNING, UNSTABLE
from ..words import count, number, percent


class Limits(Options):
    min_steps: int = Field(3, ge=2, description="Steps that have to be seen, and faulty ones that make a finding.")
    max_skipped_share: float = Field(
        0.5, gt=0, le=1, description="Largest share of the last third of the steps that the scaler may skip."
    )
    min_skip_steps: int = Field(
        48,
        ge=12,
        description="Steps before skipped ones count: the scale needs some 20 of them to come down from 65,536.",
    )
    max_dependence: float = Field(
        0.05, gt=0, lt=0.2, description="Relative change of the gradient used that halving the loss scale may make."
    )
    max_unscaled_share: float = Field(
        0.05, gt=0, lt=1, description="Largest share of the gradient that losses beside the scaled ones may have."
    )
    max_share_error: float = Field(
        0.1, gt=0, lt=0.5, description="Largest deviation from a gradient that shrinks with the scale, to call it one."
    )


@rule(
    "PRC104",
    "scaler-misuse",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, *UNSTABLE, "lr-too-high", "clip-before-unscale"),
    fix="""Build one scaler before the loop and use all three of its calls in every step:
    `scaler.scale(loss).backward(); scaler.step(optimizer); scaler.update()`.""",
    remedies=(RemedyKind.ONE_SCALE,),
    references=(
        "https://docs.pytorch.org/docs/stable/notes/amp_examples.html",
        "https://docs.pytorch.org/docs/stable/amp.html#torch.amp.GradScaler",
    ),
)
def scaler_misuse(use: ScalerUse, change: ScaleChange | None, limits: Limits) -> Judgement:
    """The GradScaler is rebuilt in every step, left out of a call or a loss, or skips most steps.

    ## What it does

    Follows the calls of every GradScaler: which loss it scales, which optimizer it steps, when it updates its scale,
    and which steps it skips.

    ## Why is it bad?

    The calls only work together. A scaled loss whose gradients are never unscaled steps thousands of times too far. An
    unscaled loss whose gradients are divided by the scale does not move the weights at all. A scaler that is built anew
    in every step, or never updated, cannot learn which scale this program can bear, so it goes on skipping steps, or
    gradients go on underflowing.

    ## How it is measured

    By identity, from the order of the calls. It fails when in at least `min-steps` steps

    - a scaler scaled a loss that had been built for that one step,
    - `optimizer.step()` was called on the gradients of a scaled loss, without `scaler.step()` and without `unscale_()`,
    - `scaler.step()` was called although no loss had been scaled since the optimizer's last step,

    or when backward was called on scaled and on other losses before one `scaler.step()`, and a replay of one step at
    three scales shows that part of the gradient shrinks as one over the scale (within `max-share-error`) that would be
    more than `max-unscaled-share` of the whole,

    or when `scaler.step()` was called and `scaler.update()` never, or when more than `max-skipped-share` of the last
    third of at least `min-skip-steps` steps were skipped although their losses are finite. One step is replayed at two
    loss scales besides: if the gradient that the optimizer uses changes by less than `max-dependence`, then it is
    unscaled in some other way, and the rule passes.

    ## When it may be wrong

    - A scaler that is switched off (`enabled=False`) does nothing and is not looked at.
    - A new scaler for every fold or phase passes.
    - Skipping the first steps is how a scaler finds its scale; only the last third counts.
    - Of several losses, one may be multiplied by `scaler.get_scale()` by hand, or be of no weight: only the effect
      counts, and where the step cannot be replayed, mixed losses pass.
    - Gradients that are divided by hand and then used by `optimizer.step()` pass, because only the effect counts. Where
      the step cannot be replayed, that finding is a warning.

    ## How to fix

    ```python
    scaler = torch.amp.GradScaler("cuda")  # once, before the loop
    for x, y in loader:
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.float16):
            loss = criterion(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    ```
    """
    never_updated = bool(use.scaler_steps >= 2 and not use.updates)
    if use.steps < limits.min_steps and not never_updated:
        raise Inconclusive(f"needs {limits.min_steps} steps, saw {use.steps}")
    rebuilt = use.single_step_scalers >= limits.min_steps and 2 * use.single_step_scalers > use.scalers
    faults = max(use.single_step_scalers if rebuilt else 0, use.direct_steps, use.unscaled_losses)
    yield Measured(
        float(faults),
        float(limits.min_steps),
        f"{count(use.scalers, 'scaler')}, {count(use.scaler_steps, 'call')} of step(), {use.updates} of update(), "
        f"{count(len(use.skipped), 'skipped step')}",
    )
    if rebuilt:
        yield _rebuilt(use, limits)
    elif never_updated:
        yield _never_updated(use)
    if use.direct_steps >= limits.min_steps:
        yield from _wrong_size(use, change, limits, direct=True)
    if use.unscaled_losses >= limits.min_steps:
        yield from _wrong_size(use, change, limits, direct=False)
    if use.mixed_losses >= limits.min_steps:
        yield from _mixed(use, change, limits)
    if not rebuilt:
        yield from _skipping(use, limits)


def _rebuilt(use: ScalerUse, limits: Limits) -> Finding:
    return Finding(
        message=(
            f"a new GradScaler scaled the loss in {use.single_step_scalers} of {count(use.steps, 'step')}: it is built "
            "inside the loop, and what it learns about its scale is thrown away"
        ),
        location=use.built_location or use.step_location,
        measured=float(use.single_step_scalers),
        limit=float(limits.min_steps),
        confidence=Confidence.CONFIRMED,
        detail=(f"{count(len(use.skipped), 'step')} of {use.steps} were skipped",) if use.skipped else (),
        fix='Move `scaler = torch.amp.GradScaler("cuda")` in front of the loop.',
    )


def _never_updated(use: ScalerUse) -> Finding:
    return Finding(
        message=f"scaler.step() was called {count(use.scaler_steps, 'time')}, and scaler.update() never",
        location=use.step_location,
        measured=float(use.updates),
        limit=1.0,
        confidence=Confidence.CONFIRMED,
        fix="Call `scaler.update()` after `scaler.step(optimizer)`, once a step.",
    )


def _wrong_size(use: ScalerUse, change: ScaleChange | None, limits: Limits, *, direct: bool) -> Judgement:
    """The gradients are never unscaled, or unscaled without having been scaled."""
    ratios = [ratio for ratio in change.ratios if math.isfinite(ratio)] if change is not None else []
    if ratios and max(abs(ratio - 1) for ratio in ratios) <= limits.max_dependence:
        return
    scale = max((scale for scale in use.scales if math.isfinite(scale)), default=math.nan)
    size = f"{number(scale)} times too " if scale > 1 else "too "
    faulty = use.direct_steps if direct else use.unscaled_losses
    if direct:
        message = (
            f"optimizer.step() used the gradients of a scaled loss in {count(faulty, 'step')}, without scaler.step() "
            f"or scaler.unscale_(): they are {size}large"
        )
        fix = "Let the scaler take the step: `scaler.step(optimizer); scaler.update()`."
    else:
        message = (
            f"scaler.step() divided the gradients by its scale in {count(faulty, 'step')} whose loss had not been "
            f"scaled: they are {size}small"
        )
        fix = "Scale the loss before its backward: `scaler.scale(loss).backward()`."
    detail: tuple[str, ...] = ()
    if change is not None and ratios:
        ratio = max(ratios, key=lambda each: abs(each - 1))
        detail = (
            f"replayed at {number(change.factor)} times the loss scale, the gradient that the optimizer uses is "
            f"{number(ratio)} times as large; it should be the same",
        )
    yield Finding(
        message=message,
        location=use.step_location or use.backward_location,
        measured=float(faulty),
        limit=float(limits.min_steps),
        severity=Severity.ERROR if ratios else Severity.WARNING,
        confidence=Confidence.CONFIRMED if ratios else Confidence.SUSPECTED,
        detail=detail,
        fix=fix,
    )


def _mixed(use: ScalerUse, change: ScaleChange | None, limits: Limits) -> Judgement:
    """Some losses of a step are scaled and some are not, and the step divides the gradients of all by the scale."""
    shrinking = [
        each
        for each in (change.unscaled if change is not None else ())
        if each.error <= limits.max_share_error and each.share > limits.max_unscaled_share
    ]
    if not shrinking:
        return
    worst = max(shrinking, key=lambda each: each.share)
    scale = max((scale for scale in use.scales if math.isfinite(scale)), default=math.nan)
    size = f"{number(scale)} times too small" if scale > 1 else "too small"
    yield Finding(
        message=(
            f"backward was called on a scaled loss and on one that is not in {count(use.mixed_losses, 'step')}, and "
            f"scaler.step() divided the gradients of both by the scale: those of the other loss are {size}"
        ),
        location=use.plain_location or use.step_location,
        measured=worst.share,
        limit=limits.max_unscaled_share,
        confidence=Confidence.CONFIRMED,
        detail=(
            f"replayed at three loss scales, a part of the gradient shrinks with the scale; in full it would be "
            f"{number(worst.share)} times as large as the whole gradient",
        ),
        fix="Scale every loss, `scaler.scale(loss_a + loss_b).backward()`, or each before its own backward.",
    )


def _skipping(use: ScalerUse, limits: Limits) -> Judgement:
    """The scale has had the time to come down, and steps are skipped still."""
    if use.steps < limits.min_skip_steps or not use.finite_losses:
        return
    late = use.steps - use.steps // 3
    skipped = sum(1 for step in set(use.skipped) if late <= step < use.steps)
    share = skipped / max(1, use.steps - late)
    if share <= limits.max_skipped_share:
        return
    scale = use.scales[-1] if use.scales else math.nan
    yield Finding(
        message=(
            f"the GradScaler skipped {percent(share)} of the last {count(use.steps - late, 'step')}, at a scale of "
            f"{number(scale)} in the end: the weights hardly change, though every loss is finite"
        ),
        location=use.step_location,
        measured=share,
        limit=limits.max_skipped_share,
        confidence=Confidence.CONFIRMED,
        detail=(f"{len(set(use.skipped))} of {count(use.steps, 'step')} were skipped in all",),
        fix="Call `scaler.update()` every step, and look for the gradient that overflows; bfloat16 would not.",
    )
