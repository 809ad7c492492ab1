"""PRC102: gradients are clipped while they still carry the loss scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
from auditor.evidence import RemedyKind, ScaleChange, ScaledClip, ScalerUse
from auditor.series import middle

from ..symptoms import NOT_LEARNING
from ..words import count, number, percent


class Limits(Options):
    min_calls: int = Field(2, ge=1, description="Calls of the clipping on scaled gradients that make a finding.")
    max_dependence: float = Field(
        0.05, gt=0, lt=0.4, description="Relative change of the gradient used that halving the loss scale may make."
    )


@rule(
    "PRC102",
    "clip-before-unscale",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, "update-ratio"),
    fix="""Call `scaler.unscale_(optimizer)` between backward() and the clipping:
    `scaler.unscale_(optimizer); torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0); scaler.step(optimizer)`.""",
    remedies=(RemedyKind.CLIP_UNSCALED,),
    references=(
        "https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-clipping",
        "https://github.com/Lightning-AI/pytorch-lightning/pull/9606",
    ),
)
def clip_before_unscale(use: ScalerUse, change: ScaleChange | None, limits: Limits) -> Judgement:
    """Gradients are clipped before they are unscaled, so the limit is thousands of times too tight.

    ## What it does

    Follows, step by step, the calls of the GradScaler, of backward() and of the clipping, and compares the norm that
    the clipping saw with the norm that the gradient really has.

    ## Why is it bad?

    `scaler.scale(loss).backward()` leaves gradients that are, say, 65,536 times too large. Clipping them to a norm of 1
    and unscaling afterwards leaves a norm of 1/65,536: every step is cut, by a factor that changes whenever the scaler
    adapts its scale. Plain SGD hardly moves then, and Adam's epsilon takes over.

    ## How it is measured

    By identity and by experiment. A call of the clipping is faulty when the gradients came from a scaled loss, when
    `unscale_()` had not been called for their optimizer since, when the scale was not 1, and when the clipping took
    hold. Then one step is replayed at two loss scales: the gradient that the optimizer uses must not depend on the
    scale. A change of more than `max-dependence` confirms the finding, and no change refutes it. At least `min-calls`
    faulty calls are asked for. Clipping that is written by hand makes no call: there the experiment decides alone, and
    it fails when the gradient used is twice as large at half the scale, as only a fixed limit makes it.

    ## When it may be wrong

    - A limit that is multiplied by the scale (`max_norm * scaler.get_scale()`) and gradients that are divided by hand
      are right: in the experiment the limit follows the scale, or the update does not depend on it, and the rule
      passes.
    - A scale of 1 and clipping that never takes hold pass.
    - Optimizers that clip inside of their own step get unscaled gradients, and make no call that is looked at.
    - Where the loop cannot be replayed, the finding is a warning.

    ## How to fix

    ```python
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
    scaler.step(optimizer)
    scaler.update()
    ```
    """
    if not use.clips:
        if change is None or not _limited_by_hand(use, change, limits):
            raise NotApplicable("no gradient of a scaled loss is clipped")
        yield Measured(1.0, 0.0, "the gradient used is inversely proportional to the loss scale")
        yield _by_hand(use, change)
        return
    known = [clip for clip in use.clips if math.isfinite(clip.scale) and clip.scale > 0]
    if not known:
        raise Inconclusive("the loss scale at the calls of the clipping is not known")
    faulty = [clip for clip in known if _is_faulty(clip)]
    share = len(faulty) / len(known)
    yield Measured(share, 0.0, _account(known, faulty))
    if len(faulty) < limits.min_calls:
        return
    proof = _dependence(change, known, limits)
    if proof is False:
        yield Measured(
            share,
            0.0,
            "the clipped gradients were not unscaled by unscale_(), but the update does not depend on the scale",
        )
        return
    yield _finding(use, change, known, faulty, sure=proof is True)


def _limited_by_hand(use: ScalerUse, change: ScaleChange, limits: Limits) -> bool:
    """Every gradient that carries the scale is brought to one fixed size, and divided by the scale after that."""
    regular = use.scaler_steps > 0 and not (use.direct_steps or use.unscaled_losses or use.mixed_losses)
    known = [ratio for ratio in change.ratios if math.isfinite(ratio)]
    return regular and bool(known) and all(abs(r * change.factor - 1) <= limits.max_dependence for r in known)


def _by_hand(use: ScalerUse, change: ScaleChange) -> Finding:
    return Finding(
        message=(
            f"the gradients are limited to a fixed size while they still carry the loss scale: replayed at "
            f"{number(change.factor)} times the scale, the gradient that the optimizer uses is "
            f"{number(change.ratios[0])} times as large; it should be the same"
        ),
        location=use.step_location,
        measured=1.0,
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        fix="Call `scaler.unscale_(optimizer)` after backward(), before the gradients are clipped or normalised.",
    )


def _is_faulty(clip: ScaledClip) -> bool:
    # Infinities are there in steps that the scaler skips.
    return not clip.unscaled and clip.scale != 1 and math.isfinite(clip.seen) and clip.seen > clip.limit


def _account(known: Sequence[ScaledClip], faulty: Sequence[ScaledClip]) -> str:
    if faulty:
        return f"{len(faulty)} of {count(len(known), 'call')} clipped gradients that still carried the loss scale"
    if all(clip.unscaled for clip in known):
        return f"all {count(len(known), 'call')} of the clipping came after unscale_()"
    return "the clipping of scaled gradients never took hold"


def _dependence(change: ScaleChange | None, known: Sequence[ScaledClip], limits: Limits) -> bool | None:
    """Whether the gradient used depends on the loss scale; None where that is not known.

    The experiment replays the first step: it tells only if the clipping takes hold there, at both scales. A limit that
    follows the scale answers by itself.
    """
    if change is None or not change.ratios:
        return None
    follows = change.limit_ratio is not None and abs(change.limit_ratio - change.factor) <= limits.max_dependence
    if follows and change.factor < 1 - limits.max_dependence:
        return False
    first = [clip for clip in known if clip.step == known[0].step and not clip.unscaled]
    norms = [clip.seen / clip.scale for clip in first if math.isfinite(clip.seen)]
    limit = max((clip.limit for clip in first), default=math.inf)
    if not norms or max(norms) * change.scale * change.factor <= limit:
        return None
    away = [abs(ratio - 1) for ratio in change.ratios if math.isfinite(ratio)]
    return max(away) > limits.max_dependence if away else None


def _finding(
    use: ScalerUse, change: ScaleChange | None, known: Sequence[ScaledClip], faulty: Sequence[ScaledClip], *, sure: bool
) -> Finding:
    example = faulty[len(faulty) // 2]
    norm = middle([clip.seen for clip in faulty])
    own = middle([clip.seen / clip.scale for clip in faulty])
    what = "norm" if example.kind == "norm" else "largest value"
    detail = [f"the limit of {number(example.limit)} acted like one of {number(example.limit / example.scale)}"]
    if sure and change is not None:
        ratio = max((r for r in change.ratios if math.isfinite(r)), key=lambda r: abs(r - 1))
        detail.append(
            f"replayed at {number(change.factor)} times the loss scale, the gradient that the optimizer uses is "
            f"{number(ratio)} times as large; it should be the same"
        )
    return Finding(
        message=(
            f"clip_grad_{example.kind}_ saw a {what} of {number(norm)} where the gradient's own is {number(own)}: in "
            f"{percent(len(faulty) / len(known))} of its {count(len(known), 'call')} the gradients still carried the "
            f"loss scale of {number(example.scale)}"
        ),
        location=use.clip_location or use.step_location,
        measured=len(faulty) / len(known),
        limit=0.0,
        severity=Severity.ERROR if sure else Severity.WARNING,
        confidence=Confidence.CONFIRMED if sure else Confidence.SUSPECTED,
        detail=tuple(detail),
    )
