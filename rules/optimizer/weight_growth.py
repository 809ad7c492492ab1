"""OPT110: weights grow exponentially."""

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
from auditor.evidence import Motion, ParameterMotion, RemedyKind, Trajectory
from auditor.series import growth

from ..symptoms import NOT_LEARNING
from ..words import count, listing, number

STEADY = 0.9  # of the exponential rate of the first half


class Limits(Options):
    max_growth: float = Field(
        1.25, gt=1, description="Largest factor by which a weight's norm may surely grow in the later half."
    )
    min_points: int = Field(14, ge=14, description="Norms of a weight that have to be known.")
    min_outward: float = Field(
        0.4, ge=0, lt=1, description="Smallest cosine of the descent direction and the weight that itself grows."
    )
    min_weights_share: float = Field(0.5, gt=0, le=1, description="Share of the weights that have to grow like that.")


@rule(
    "OPT110",
    "weight-growth",
    severity=Severity.WARNING,
    explains=(*NOT_LEARNING, "nonfinite-loss", "loss-oscillation"),
    fix="""Check the sign of the penalty, `loss = loss + 1e-4 * penalty`, and of `maximize=`; then add weight decay,
    `torch.optim.AdamW(model.parameters(), weight_decay=0.01)`, or lower the rate.""",
    references=(
        "https://arxiv.org/abs/1711.05101",
        "https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html",
    ),
    remedies=((RemedyKind.RATE, 0.25),),
)
def weight_growth(motion: Motion, trajectory: Trajectory | None, limits: Limits) -> Judgement:
    """The norms of the weights grow exponentially, and the growth does not slow down.

    ## What it does

    Follows the norm of every weight over the observed steps and looks for growth that keeps its pace.

    ## Why is it bad?

    Weights of a healthy network grow in the beginning and settle. Ones that go on multiplying end in infinities after
    some hundred or thousand steps, long after the probe. The usual reasons are a penalty with the wrong sign, an
    optimizer that maximizes, two networks that drive each other up, or a rate at the edge of divergence.

    ## How it is measured

    By statistics. For each weight with two dimensions or more, a straight line is fitted to the logarithm of its norm
    (Theil-Sen) over the later half of the observation. A weight grows without bound when

    - the lower end of the 99 % interval means a factor of more than `max-growth` over that half,
    - the growth there has at least nine tenths of its rate in the first half, and
    - the gradient itself drives it: the descent direction points outwards, along the weight, with a cosine of
      `min-outward` or more in the median. Learning turns weights; a runaway stretches them.

    It fails when more than `min-weights-share` of the weights do. Weights of which a normalization takes
    the scale away, told by gradients that are orthogonal to them, do not count.

    ## When it may be wrong

    - Weights that start near zero multiply quickly at first, but ever more slowly; they pass.
    - A short run may end before the growth does harm; what is reported is where it leads.
    - During warm-up the growth speeds up with the rate. While the rate still rises, the rule has no opinion.

    ## How to fix

    ```python
    loss = criterion(model(x), y) + 1e-4 * sum(p.square().sum() for p in model.parameters())  # plus, not minus
    ```
    """
    watched = [each for each in motion.parameters if len(each.norms) >= limits.min_points and not each.scale_invariant]
    if not watched:
        most = max((len(each.norms) for each in motion.parameters), default=0)
        raise Inconclusive(f"needs {limits.min_points} norms of a weight over the steps, has {most}")
    seen = [(each, found) for each in watched if (found := _look(each)) is not None]
    if not seen:
        raise Inconclusive("the norms of the weights are not finite, or zero")
    growing = [(each, found) for each, found in seen if _grows(each, found, limits)]
    share = len(growing) / len(watched)
    least = sorted(found.low if found.steady and each.outward >= limits.min_outward else 1.0 for each, found in seen)
    middle = least[len(least) // 2]
    yield Measured(
        middle, limits.max_growth, f"{len(growing)} of {count(len(watched), 'weight')} grow without slowing down"
    )
    if share > limits.min_weights_share:
        if trajectory is not None and _rises(trajectory.learning_rates):
            raise Inconclusive("the weights grow ever faster, but so does the learning rate: still in the warm-up")
        yield _finding(growing, watched, motion, limits)


def _rises(rates: tuple[float, ...]) -> bool:
    """The rate is higher at the end than in the middle."""
    return len(rates) > 2 and rates[-1] > 1.05 * rates[len(rates) // 2]


@dataclass(frozen=True)
class _Look:
    factor: float  # over the later half
    low: float
    steady: bool  # the later half grows as fast as the first one


def _grows(each: ParameterMotion, found: _Look, limits: Limits) -> bool:
    return found.low > limits.max_growth and found.steady and each.outward >= limits.min_outward


def _look(each: ParameterMotion) -> _Look | None:
    half = len(each.norms) // 2
    first, late = each.norms[: half + 1], each.norms[-half - 1 :]
    if not all(math.isfinite(norm) and norm > 0 for norm in (*first, *late)):
        return None
    later = growth(late)
    if later is None:
        return None
    early = first[-1] / first[0]
    return _Look(later.factor, later.low, steady=math.log(max(later.factor, 1e-300)) >= STEADY * math.log(early))


def _finding(
    growing: list[tuple[ParameterMotion, _Look]], watched: list[ParameterMotion], motion: Motion, limits: Limits
) -> Finding:
    each, found = max(growing, key=lambda pair: pair[1].low)
    span = (motion.norm_steps[-1] - motion.norm_steps[0]) / 2 if len(motion.norm_steps) > 1 else motion.steps / 2
    rate = math.log(found.factor) if found.factor > 1 and math.isfinite(found.factor) else 0.0
    doubling = f", doubling every {number(span * math.log(2) / rate)} steps" if rate > 0 and span > 0 else ""
    names = [other.name for other, _ in growing]
    return Finding(
        message=(
            f"{len(growing)} of {count(len(watched), 'weight')} grow exponentially: the norm of {each.name} went from "
            f"{number(each.norms[0])} to {number(each.norms[-1])} in {count(motion.steps, 'step')}{doubling}"
        ),
        where=each.name,
        location=each.location,
        measured=found.low,
        limit=limits.max_growth,
        confidence=Confidence.SUSPECTED,
        detail=(f"growing: {listing(names)}",),
    )
