"""FIT104: the loss stands still at the level of a constant answer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic import Field

from auditor.declare import Finding, Inconclusive, Judgement, Measured, NotApplicable, Options, Severity, rule
from auditor.evidence import InitialLoss, LossSites, Overfit, Program, RemedyKind, Targets, Trajectory
from auditor.series import finite, middle, spread

from ..words import count, number


class Limits(Options):
    min_steps: int = Field(
        40, ge=20, description="Observed steps that it takes to tell a standstill from a slow start."
    )
    alpha: float = Field(0.01, gt=0, lt=0.5, description="Error rate of the interval of the slope.")
    min_gap: float = Field(
        0.02, ge=0, lt=1, description="Share of the constant answer's loss that counts as having got below it."
    )


@rule(
    "FIT104",
    "loss-plateau",
    severity=Severity.WARNING,
    fix="""Let the loop learn 8 samples by heart first, `x, y = x[:8], y[:8]`, and see what keeps it from doing so.""",
    references=(
        "https://karpathy.github.io/2019/04/25/recipe/",
        "https://doi.org/10.1080/01621459.1968.10480934",
    ),
    remedies=(
        (RemedyKind.RATE, 0.25),
        (RemedyKind.RATE, 4.0),
        RemedyKind.STANDARDIZE_INPUTS,
        RemedyKind.REINITIALIZE,
    ),
)
def loss_plateau(
    trajectory: Trajectory,
    program: Program,
    initial: InitialLoss | None,
    targets: Targets | None,
    sites: LossSites | None,
    overfit: Overfit | None,
    limits: Limits,
) -> Judgement:
    """The loss neither falls nor gets below what a constant answer would reach.

    ## What it does

    Fits a line through the second half of the observed losses, and compares their level with the loss of the best
    constant answer: the entropy of the labels, or the variance of the targets.

    ## Why is it bad?

    A loss that stands at this level tells that the model has learned how often each class occurs, and nothing of what
    belongs to which input. More epochs of the same rarely change that; something keeps the inputs from counting.

    ## How it is measured

    By statistics, so it is a suspicion: the Theil-Sen slope of the losses over the second half has an interval of
    error rate `alpha` that holds 0, and their median is not below the constant answer's loss by more than two standard
    errors and `min-gap` of it. It takes `min-steps` observed steps. Where the overfit experiment shows that the loop
    can learn, a standstill is only a slow start, and the rule is inconclusive.

    ## When it may be wrong

    - Only a single loss whose constant answer is known is judged: cross entropy on labels, mean squared error.
    - Some programs start late (deep networks without normalization, long warm-ups). While the rate rises, nothing is
      said.
    - Labels that carry no information, as in benchmarks of memorisation, look the same.

    ## How to fix

    ```python
    x, y = next(iter(loader))
    for _ in range(200):
        optimizer.zero_grad()
        criterion(model(x[:8]), y[:8]).backward()      # does it get to zero?
        optimizer.step()
    ```
    """
    base = _constant_answer(initial, targets, sites)
    if base is None:
        raise NotApplicable(
            "the loss is not a single cross entropy or squared error, so a constant answer's is not known"
        )
    losses = trajectory.losses
    if trajectory.replaced_after is not None and trajectory.replaced_after < len(losses):
        raise Inconclusive(f"after {count(trajectory.replaced_after, 'step')} another model was trained")
    if len(losses) < limits.min_steps:
        raise Inconclusive(f"needs {limits.min_steps} steps, saw {len(losses)}")
    course = _course(losses[len(losses) // 2 :], limits.alpha)
    if course is None:
        raise Inconclusive("the losses of the second half are not all finite")
    below = base - max(2 * course.error, limits.min_gap * abs(base))
    text = f"loss {number(course.level)} at the end, {number(base)} for the best constant answer"
    yield Measured(course.level, below, text)
    if course.level < below or course.high < 0 or course.low > 0:
        return
    rates = finite(trajectory.learning_rates)
    if rates and rates[-1] > 1.05 * rates[len(rates) // 2]:
        raise Inconclusive(f"{text}; but the rate was still rising")
    if overfit is not None and any(arm.reached for arm in overfit.arms):
        raise Inconclusive(f"{text}; but a few samples can be learned by heart: more steps would tell")
    yield Finding(
        message=(
            f"the loss has stood at {number(course.level)} over the last {count(course.steps, 'step')}, where a "
            f"constant answer has {number(base)}"
        ),
        location=program.loss_location,
        measured=course.level,
        limit=below,
        detail=(
            f"slope per step from {number(course.low)} to {number(course.high)} (error rate {number(limits.alpha)})",
            f"from {number(losses[0])} at the first step",
        ),
    )


def _constant_answer(initial: InitialLoss | None, targets: Targets | None, sites: LossSites | None) -> float | None:
    """Loss of the best constant prediction, where the whole loss is one call with mean reduction."""
    if sites is None or not sites.covered or len(sites.sites) != 1 or sites.sites[0].reduction != "mean":
        return None
    one = None  # of one call
    if initial is not None and not (initial.weighted or initial.soft_targets or initial.label_smoothing):
        one = initial.marginal
    elif targets is not None and targets.function == "mse_loss":
        one = targets.std**2
    return one * sites.multiple if one is not None and one > 0 and sites.multiple > 0 else None


@dataclass(frozen=True)
class _Course:
    steps: int
    level: float
    error: float  # standard error of the level
    low: float
    high: float


def _course(losses: tuple[float, ...], alpha: float) -> _Course | None:
    if len(finite(losses)) < len(losses) or len(losses) < 8:
        return None
    from scipy.stats import theilslopes  # type: ignore[import-untyped]

    _, _, low, high = theilslopes(losses, alpha=1 - alpha)
    error = 1.25 * spread(losses) / math.sqrt(len(losses))
    return _Course(len(losses), middle(losses), error, float(low), float(high))
