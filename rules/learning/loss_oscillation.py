"""FIT105: the loss jumps about more than its batches do."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field

from auditor.declare import Confidence, Finding, Inconclusive, Judgement, Measured, Options, Severity, rule
from auditor.evidence import HeldWeights, LowerRate, RemedyKind
from auditor.paired import settles, untrue
from auditor.series import finite, middle, signed

from ..symptoms import NOT_LEARNING
from ..words import count, number, percent


class Limits(Options):
    min_excess: float = Field(
        2.0, gt=1, description="Times that the losses vary as much as with the weights held, in standard deviations."
    )
    min_amplitude: float = Field(
        0.2, gt=0, description="Standard deviation of what the moving weights add, as a share of the level of the loss."
    )
    max_p_value: float = Field(0.001, gt=0, lt=1, description="Largest p-value of the F-test of the two variances.")
    max_falling_p_value: float = Field(
        0.05, gt=0, lt=1, description="p-value of the rank test below which the losses count as falling."
    )
    min_settled: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Share by which the loss may stay above that at a far lower rate as yours comes down.",
    )
    min_steps: int = Field(12, ge=8, description="Steps with the weights held.")
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")


@rule(
    "FIT105",
    "loss-oscillation",
    severity=Severity.WARNING,
    explains=NOT_LEARNING,
    fix="""Lower the rate, or average over more samples: `lr=lr / 4`, a larger `batch_size`, or
    `torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)`.""",
    references=(
        "https://arxiv.org/abs/2103.00065",
        "https://arxiv.org/abs/1711.00489",
    ),
    remedies=(
        (RemedyKind.RATE, 0.25),
        (RemedyKind.CLIP, 1.0),
    ),
)
def loss_oscillation(held: HeldWeights, lower: LowerRate | None, limits: Limits) -> Judgement:
    """The weights jump back and forth, and the loss with them, without getting lower.

    ## What it does

    Replays the loop twice on the same batches, the second time with the weights held from the middle on. What the loss
    does there is the noise of the batches; what it does beyond that with moving weights is the optimizer's own.

    ## Why is it bad?

    Each step overshoots and the next one corrects it. The loss is then set by the length of the steps instead of by
    what the model could reach, and a checkpoint is good or bad by chance.

    ## How it is measured

    By experiment with a control: on the same batches, the standard deviation of the losses with moving weights is at
    least `min-excess` times that with held weights, significantly by an F-test; what moving adds batch by batch has a
    standard deviation of at least `min-amplitude` of the level; and the later half of these losses is not lower than
    the earlier half, by a one-sided Mann-Whitney test (`max-falling-p-value`).

    ## When it may be wrong

    - Noise from small batches is in both arms, and does not count.
    - A loss that jumps while it falls is on its way, and passes. So does one that lies below that of the held weights,
      on the same batches: the jumps led on.
    - Where the script lowers its rate as it goes, and a replay in which it comes down to zero ends no higher than one
      at a sixteenth of the rate, the jumps end by themselves, and it passes.
    - Spikes during a warm-up, and catapults that settle later, look like it in a short probe.

    ## How to fix

    ```python
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)    # from 0.1
    ```
    """
    if untrue(held.fidelity, limits.max_fidelity):
        raise Inconclusive(f"the replay differs from the observed run by {percent(held.fidelity or 0.0)}")
    moving, still = held.control[held.held_from :], held.held[held.held_from :]
    steps = min(len(moving), len(still))
    if steps < limits.min_steps:
        raise Inconclusive(f"needs {limits.min_steps} steps with the weights held, saw {steps}")
    moving, still = moving[:steps], still[:steps]
    if len(finite((*moving, *still))) < 2 * steps or signed(moving, still):
        raise Inconclusive("the losses are not all finite and positive")
    ours, noise = _deviation(moving), _deviation(still)
    level = middle(still)
    added = _deviation([a - b for a, b in zip(moving, still, strict=True)])
    ratio = ours / noise if noise > 0 else math.inf if ours > 0 else 0.0
    yield Measured(
        ratio,
        limits.min_excess,
        f"the losses vary by {number(ours)} as the weights move and by {number(noise)} while they are held",
    )
    if level <= 0 or ratio < limits.min_excess or added < limits.min_amplitude * level:
        return
    if _p_value(ours, noise, steps) > limits.max_p_value or _falling(moving) < limits.max_falling_p_value:
        return
    if _below(moving, still) < limits.max_falling_p_value:
        return
    if lower is not None and settles(lower, limits.min_settled, limits.max_p_value):
        return
    yield Finding(
        message=(
            f"over {count(steps, 'step')} on the same batches, the losses vary by {number(ours)} while the weights "
            f"move and by {number(noise)} while they are held, and do not fall (median {number(middle(moving))})"
        ),
        location=held.location,
        measured=ratio,
        limit=limits.min_excess,
        confidence=Confidence.CONFIRMED,
        detail=(f"what the moving weights add has a standard deviation of {percent(added / level)} of the level",),
    )


def _deviation(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return math.hypot(*(value - mean for value in values)) / math.sqrt(len(values) - 1)


def _falling(values: Sequence[float]) -> float:
    """p-value of the rank test that the later half is lower than the earlier one."""
    from scipy.stats import mannwhitneyu  # type: ignore[import-untyped]

    half = len(values) // 2
    return float(mannwhitneyu(values[half:], values[:half], alternative="less").pvalue)


def _below(moving: Sequence[float], still: Sequence[float]) -> float:
    """p-value of the paired test that the moving weights do better than those they started from, on the same batches:
    they get on, in jumps."""
    from scipy.stats import wilcoxon

    return float(wilcoxon(moving, still, alternative="less").pvalue) if moving != still else 1.0


def _p_value(ours: float, noise: float, steps: int) -> float:
    """One-sided F-test that the first variance is the larger one; steps are taken as independent."""
    if noise <= 0:
        return 0.0
    from scipy.stats import f

    ratio = ours / noise
    return float(f.sf(ratio * ratio, steps - 1, steps - 1))
