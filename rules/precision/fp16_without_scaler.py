"""PRC101: float16 gradients underflow to zero, because nothing scales the loss."""

from __future__ import annotations

from pydantic import Field

from auditor.declare import Confidence, Finding, Inconclusive, Judgement, Measured, Options, Severity, rule
from auditor.evidence import Program, Remedy, RemedyKind, Underflow
from auditor.series import finite, middle

from ..symptoms import NOT_LEARNING
from ..words import count, named, number, percent


class Limits(Options):
    max_lost_share: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Largest share of the gradient's elements that may underflow, median of the steps.",
    )
    min_steps: int = Field(3, ge=1, description="Steps that have to be compared.")
    min_elements: int = Field(1000, ge=1, description="Elements of the gradient below which a share means nothing.")


@rule(
    "PRC101",
    "fp16-without-scaler",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, "update-ratio"),
    fix="""Scale the loss, `scaler = torch.amp.GradScaler("cuda")`, then `scaler.scale(loss).backward()`,
    `scaler.step(optimizer)` and `scaler.update()`; or use bfloat16, which needs no scaler.""",
    remedies=(RemedyKind.SCALE_LOSS,),
    references=(
        "https://docs.pytorch.org/docs/stable/amp.html#gradient-scaling",
        "https://docs.pytorch.org/docs/stable/notes/amp_examples.html",
        "https://arxiv.org/abs/1710.03740",
    ),
)
def fp16_without_scaler(underflow: Underflow, program: Program | None, limits: Limits) -> Judgement:
    """Gradients are computed in float16 without a loss scale, and part of them underflows to zero.

    ## What it does

    Replays the first steps of a loop that computes in float16 (autocast, or weights of that type) and has no loss
    scale: once as it is, once with the loss multiplied by a large power of two and the gradients divided by it again.

    ## Why is it bad?

    float16 ends at 6e-8: smaller gradients become exactly zero, and below 6.1e-5 they lose digits. The last layers
    train, the first ones receive less and less the better the fit is, and the loss stalls without any error. A scale
    lifts the gradients into the range that float16 has; the digits stay the same, because it is a power of two.

    ## How it is measured

    By experiment, with your program as its own control: same weights, same batches, same random numbers, the scale
    being the only difference. An element of the gradient that is zero in the plain run and not zero in the scaled one
    has underflowed; zeros of both runs (inactive units, unused embeddings) do not count. It fails when in the median
    step more than `max-lost-share` of the elements that should not be zero are. Gradients of at least `min-elements`
    elements are compared over at least `min-steps` steps.

    ## When it may be wrong

    - bfloat16 has the range of float32: it needs no scaler and is not looked at.
    - Small networks with large gradients lose next to nothing in float16; they pass.
    - A loss that is multiplied by hand (`(1024 * loss).backward()`) passes, because only the effect counts.
    - Gradients shrink as training goes on, so a pass of the first steps is no promise for the last ones.

    ## How to fix

    ```python
    scaler = torch.amp.GradScaler("cuda")
    for x, y in loader:
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.float16):
            loss = criterion(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    ```
    """
    lost = finite(underflow.lost)
    if len(lost) < limits.min_steps:
        raise Inconclusive(f"needs {limits.min_steps} steps replayed with and without a loss scale, saw {len(lost)}")
    if underflow.elements < limits.min_elements:
        raise Inconclusive(f"needs a gradient of {limits.min_elements} elements, this one has {underflow.elements}")
    share = middle(lost)
    yield Measured(
        share,
        limits.max_lost_share,
        f"{percent(share)} of the gradient's elements underflow, median of {count(len(lost), 'step')}",
    )
    if share <= limits.max_lost_share:
        return
    detail = [f"under a loss scale of {number(underflow.scale)} the same elements are not zero"]
    if underflow.worst_layer:
        detail.append(f"{named(underflow.worst_layer)} loses most: {percent(underflow.worst_lost)} in the first step")
    where = "autocast computes in float16" if underflow.source == "autocast" else "the weights are float16"
    yield Finding(
        message=(
            f"{percent(share)} of the elements of the gradient are zero only because they underflow: {where}, "
            "and nothing scales the loss"
        ),
        where=underflow.worst_layer,
        location=(program.loss_location if program is not None else None) or underflow.autocast_location,
        measured=share,
        limit=limits.max_lost_share,
        confidence=Confidence.CONFIRMED,
        detail=tuple(detail),
        remedies=(Remedy(kind=RemedyKind.SCALE_LOSS, amount=underflow.scale),),
    )
