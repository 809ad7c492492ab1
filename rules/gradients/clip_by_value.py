"""GRD104: clipping by value turns the gradient away from its direction."""

from __future__ import annotations

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
from auditor.evidence import ValueClipping
from auditor.series import finite, middle

from ..words import count, number, percent


class Limits(Options):
    min_cosine: float = Field(
        0.9, gt=0, lt=1, description="Smallest cosine of the gradient before and after that passes."
    )
    max_active_share: float = Field(0.9, gt=0, lt=1, description="Largest share of the steps that may be clipped.")
    min_steps: int = Field(5, ge=1, description="Sampled steps with clipping.")


@rule(
    "GRD104",
    "clip-by-value",
    severity=Severity.NOTE,
    fix="""Clip the norm, which keeps the direction: `torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)`.""",
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html",
        "https://arxiv.org/abs/1211.5063",
    ),
)
def clip_by_value(clipping: ValueClipping, limits: Limits) -> Judgement:
    """Gradients are clipped element by element at nearly every step, and point elsewhere afterwards.

    ## What it does

    Compares the gradient right before `clip_grad_value_` with the one after it, at sampled steps.

    ## Why is it bad?

    Clipping by value cuts the large components and leaves the small ones, so what remains is no longer the direction of
    steepest descent; with a low limit it is close to the sign of the gradient. As a guard against rare spikes that is
    fine. When it acts at every step, the optimizer never sees the gradient at all.

    ## How it is measured

    By the cosine between both, over all parameters, at the sampled steps. It is reported when elements were cut at more
    than `max-active-share` of these steps and the median cosine is below `min-cosine`.

    ## When it may be wrong

    - It is a note: sign-like updates can train well, and recipes with clipping by value exist that were tuned with it.
    - The limit is judged in the units in which it acts: with a GradScaler, gradients have to be unscaled before.

    ## How to fix

    ```python
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
    optimizer.step()
    ```
    """
    pairs = list(zip(clipping.cosines, clipping.shares, strict=False))
    if len(pairs) < limits.min_steps:
        raise Inconclusive(f"needs {limits.min_steps} sampled steps with clipping, saw {len(pairs)}")
    active = sum(1 for _, share in pairs if share > 0) / len(pairs)
    if not finite(clipping.cosines):
        raise Inconclusive("the gradients are zero or not finite")
    cosine = middle(clipping.cosines)
    text = f"clipping was active at {percent(active)} of {count(len(pairs), 'sampled step')}"
    yield Measured(cosine, limits.min_cosine, f"median cosine {number(cosine)} with the raw gradient; {text}")
    if active > limits.max_active_share and cosine < limits.min_cosine:
        cut = middle(clipping.shares)
        yield Finding(
            message=(
                f"clip_grad_value_ at {number(clipping.limit)} acts at {percent(active)} of the steps and turns the "
                f"gradient: its cosine with the raw one is {number(cosine)}"
            ),
            location=clipping.location,
            measured=cosine,
            limit=limits.min_cosine,
            confidence=Confidence.CONFIRMED,
            detail=(f"{percent(cut)} of the elements are cut in the median step",),
        )
