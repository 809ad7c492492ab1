"""DAT106: regression targets far from the size of what a network puts out."""

from __future__ import annotations

import math

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
from auditor.evidence import RemedyKind, StandardizedTargets, Targets
from auditor.paired import Comparison, compare, untrue

from ..symptoms import NOT_LEARNING
from ..words import count, number


class Limits(Options):
    max_offset: float = Field(3.0, gt=0, description="Largest |mean|/std of the targets before the experiment.")
    min_std: float = Field(0.05, gt=0, description="Smallest standard deviation of the targets, likewise.")
    max_std: float = Field(20.0, gt=0, description="Largest standard deviation of the targets, likewise.")
    min_gain: float = Field(
        0.4, gt=0, lt=1, description="Share of the end loss, in units of the targets' spread, that has to go."
    )
    min_level: float = Field(
        1.0, gt=0, description="Loss as they are, in units of their spread: 1 is what the mean as an answer has."
    )
    max_p_value: float = Field(0.01, gt=0, lt=1, description="Largest p-value of the paired test.")
    min_steps: int = Field(12, ge=6, description="Steps that the experiment has to run.")
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")


@rule(
    "DAT106",
    "unscaled-targets",
    severity=Severity.WARNING,
    explains=(
        *NOT_LEARNING,
        "lr-too-high",
        "lr-too-low",
        "exploding-gradients",
        "nonfinite-loss",
        "dead-units",
        "saturated-activations",
        "initial-loss",
        "loss-oscillation",
        "update-ratio",
        "weight-growth",
    ),
    fix="""Train on standardized targets and turn predictions back: `t = (y - y_train.mean()) / y_train.std()`,
    `prediction = model(x) * y_train.std() + y_train.mean()`.""",
    references=(
        "https://scikit-learn.org/stable/modules/generated/sklearn.compose.TransformedTargetRegressor.html",
        "https://arxiv.org/abs/1602.07714",
    ),
    remedies=(RemedyKind.STANDARDIZE_TARGETS,),
)
def unscaled_targets(targets: Targets, experiment: StandardizedTargets | None, limits: Limits) -> Judgement:
    """The targets of a regression are so large, small or far from zero that the steps go into their scale.

    ## What it does

    Measures the targets as the regression loss receives them. Where they are far from zero mean and unit size, it
    replays the loop with standardized targets and compares how much of the targets' variance is explained after as
    many steps.

    ## Why is it bad?

    A fresh network puts out numbers around zero of size one. If the targets are around 200,000, the first thousands of
    steps do nothing but move the bias of the last layer there; the loss falls all the time and says nothing. With plain
    SGD the gradients are as large as the targets, and the run diverges; with very small targets they vanish.

    ## How it is measured

    Targets are suspicious when |mean|/std exceeds `max-offset`, or the standard deviation leaves `min-std` to
    `max-std`. Then the experiment decides: the same batches from the same weights with the same random numbers, with
    the targets as they are and standardized, both losses in units of the targets' spread. The finding is confirmed,
    and an error, when your loop has not come below `min-level` by then, and standardizing removes at least `min-gain`
    of the end loss, significantly by a paired test and in two looks. Where your loop has come below that level, the
    same gain is a note. Without the experiment, the rule is inconclusive.

    ## When it may be wrong

    - An output layer that starts at the targets' mean, or scales its output, learns as well without; such programs
      pass.
    - The horizon is short: a program that merely starts late looks worse than it ends. Once the loss is below that of
      the mean as an answer, the scale has been found, and no more than a note is made of it.
    - Losses written by hand are not seen; the targets have to go through mse_loss, l1_loss or a relative of theirs.

    ## How to fix

    ```python
    mean, std = y_train.mean(), y_train.std()
    loss = criterion(model(x), (y - mean) / std)
    prediction = model(x_test) * std + mean
    ```
    """
    if not all(math.isfinite(value) for value in (targets.mean, targets.std)):
        raise Inconclusive("the targets hold NaN or infinity")
    if targets.std <= 0:
        raise NotApplicable("all targets are equal")
    offset = abs(targets.mean) / targets.std
    text = f"the targets have mean {number(targets.mean)} and standard deviation {number(targets.std)}"
    yield Measured(offset, limits.max_offset, text)
    if offset <= limits.max_offset and limits.min_std <= targets.std <= limits.max_std:
        return
    if experiment is None or untrue(experiment.fidelity, limits.max_fidelity):
        raise Inconclusive(f"{text}: only the experiment with standardized targets tells whether that harms")
    looks = [look for look in map(compare, experiment.looks) if look.steps >= limits.min_steps]
    if not looks:
        raise Inconclusive(f"{text}: the experiment needs {limits.min_steps} steps")
    shown = min(looks, key=lambda look: look.gain)
    ends = f"{number(shown.control_end)} as they are, {number(shown.treated_end)} standardized"
    yield Measured(
        shown.gain, limits.min_gain, f"{text}; loss in units of their spread after {count(shown.steps, 'step')}: {ends}"
    )
    slight = not all(_helps(look, limits) for look in looks)
    if slight and not (len(looks) > 1 and all(_faster(look, limits) for look in looks)):
        return
    sure = len(looks) > 1
    yield Finding(
        message=(
            f"{text}: after {count(shown.steps, 'step')} the loss in units of their spread is "
            f"{number(shown.control_end)}, with standardized targets {number(shown.treated_end)}"
        ),
        where=targets.function,
        location=targets.location,
        measured=shown.gain,
        limit=limits.min_gain,
        severity=Severity.NOTE if slight else Severity.ERROR if sure else Severity.WARNING,
        confidence=Confidence.CONFIRMED if sure else Confidence.SUSPECTED,
        detail=(
            f"values from {number(targets.min)} to {number(targets.max)}",
            *(
                f"same batches, same weights: {number(look.control_end)} as they are, {number(look.treated_end)} "
                f"standardized (p = {number(look.p_value)})"
                for look in looks
            ),
        ),
    )


def _faster(look: Comparison, limits: Limits) -> bool:
    return not look.treated_diverged and look.p_value <= limits.max_p_value and look.gain >= limits.min_gain


def _helps(look: Comparison, limits: Limits) -> bool:
    if look.treated_diverged:
        return False
    behind = look.control_end >= limits.min_level and look.gain >= limits.min_gain
    return look.control_diverged or (look.p_value <= limits.max_p_value and behind)
