"""OPT106: updates are far too large or far too small for the weights."""

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
    Options,
    Severity,
    rule,
)
from auditor.evidence import LayerUpdates, Remedy, RemedyKind, Trajectory, Updates
from auditor.series import finite, middle

from ..symptoms import NOT_LEARNING
from ..words import count, number


class Limits(Options):
    max_ratio: float = Field(0.3, gt=0, description="Largest update of a weight per step, over the weight.")
    min_ratio: float = Field(1e-5, gt=0, description="Smallest update of a weight per step, over the weight.")
    max_share: float = Field(0.5, gt=0, lt=1, description="Largest share of the weights that may lie outside.")
    min_steps: int = Field(4, ge=2, description="Sampled steps near the highest rate.")


@rule(
    "OPT106",
    "update-ratio",
    severity=Severity.WARNING,
    explains=(*NOT_LEARNING, "dead-units"),
    fix="""Change the learning rate by the factor that is missing, `torch.optim.SGD(model.parameters(), lr=0.1)`, and
    look whether the loss is divided more often than by `reduction="mean"`.""",
    references=(
        "https://cs231n.github.io/neural-networks-3/#ratio",
        "https://www.youtube.com/watch?v=P6sfmUTpUmc",
        "https://arxiv.org/abs/2204.00871",
    ),
    remedies=(RemedyKind.RATE,),
)
def update_ratio(updates: Updates, trajectory: Trajectory | None, limits: Limits) -> Judgement:
    """The steps are out of proportion to the weights: they replace them, or leave no trace on them.

    ## What it does

    Compares the size (RMS) of each weight's update with that of the weight, at sampled steps.

    ## Why is it bad?

    A thousandth per step is what usually trains well. When a step changes a weight by a third, nothing that was learnt
    before survives it. When it changes a weight by a millionth, a hundred thousand steps would be needed for a change
    of a tenth. The rate is then off by orders of magnitude, or the gradient is: a loss that is divided twice, or
    multiplied by something large.

    ## How it is measured

    By the median ratio of each weight with two dimensions or more, over the sampled steps whose rate is at least half
    of the highest one seen, so that a warm-up does not count. It fails when more than `max-share` of the weights lie
    above `max-ratio`, or more than that share below `min-ratio`. In 200 healthy programs the medians lay between 0.0017
    and 0.1.

    ## When it may be wrong

    - Weights that are close to zero (zero-initialized heads, gates, LoRA's B) have no meaningful ratio and do not
      count; neither do biases and norm weights.
    - Weights that do not move at all do not count as small: that is no matter of the rate (see params-not-updated,
      dead-units, broken-graph).
    - A rate that still rises at the end of the observation says nothing about its height: then small updates are left
      alone.
    - Very careful fine-tuning comes near the lower limit. It is a statistic; whether a higher or a lower rate would be
      better is for the experiments of lr-too-high and lr-too-low to say.

    ## How to fix

    ```python
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)  # updates of about 1e-3 of the weights
    ```
    """
    rates = trajectory.learning_rates if trajectory is not None else ()
    seen = [look for layer in updates.layers if (look := _look(layer, updates.steps, rates, limits)) is not None]
    if not seen:
        raise Inconclusive(f"needs {limits.min_steps} sampled steps of a weight near the highest rate")
    high = [look for look in seen if look.ratio > limits.max_ratio]
    low = [look for look in seen if 0 < look.ratio < limits.min_ratio]
    typical = middle([look.ratio for look in seen])
    too_small = len(low) > len(high)
    limit = limits.min_ratio if too_small else limits.max_ratio
    yield Measured(typical, limit, f"{number(typical)} of the weights per step, median of {count(len(seen), 'weight')}")
    outside = low if too_small else high
    if len(outside) <= limits.max_share * len(seen):
        return
    if too_small and _rises(rates):
        raise Inconclusive("the updates are small, but the learning rate still rises: the warm-up is not over")
    yield _finding(outside, seen, limit, too_small)


@dataclass(frozen=True)
class _Look:
    layer: LayerUpdates
    ratio: float


def _look(layer: LayerUpdates, steps: tuple[int, ...], rates: tuple[float, ...], limits: Limits) -> _Look | None:
    """Median near the highest rate; None with too few steps."""
    top = max((rate for rate in rates if math.isfinite(rate)), default=0.0)
    kept = [
        ratio
        for step, ratio in zip(steps, layer.ratios, strict=False)
        if top <= 0 or not 0 <= step < len(rates) or not math.isfinite(rates[step]) or rates[step] >= 0.5 * top
    ]
    return _Look(layer, middle(kept)) if len(finite(kept)) >= limits.min_steps else None


def _rises(rates: tuple[float, ...]) -> bool:
    return len(rates) > 2 and rates[-1] > 1.05 * rates[len(rates) // 2]


def _finding(outside: list[_Look], seen: list[_Look], limit: float, too_small: bool) -> Finding:
    worst = min(outside, key=lambda look: look.ratio) if too_small else max(outside, key=lambda look: look.ratio)
    typical = middle([look.ratio for look in outside])
    steps = f"about {number(0.1 / typical)} steps for a change of a tenth" if typical > 0 else "no change at all"
    effect = steps if too_small else "a step replaces what the ones before have learnt"
    return Finding(
        message=(
            f"the updates of {len(outside)} of {count(len(seen), 'weight')} are {number(typical)} of the weights per "
            f"step: {effect}"
        ),
        where=worst.layer.name,
        location=worst.layer.location,
        measured=typical,
        limit=limit,
        confidence=Confidence.SUSPECTED,
        detail=tuple(f"{look.layer.name}: {number(look.ratio)}" for look in outside[:6]),
        remedies=(Remedy(kind=RemedyKind.RATE, amount=16.0 if too_small else 0.25),),
    )
