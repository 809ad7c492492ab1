"""DAT102: some features are hundreds of times larger than others."""

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
from auditor.evidence import Inputs, RemedyKind, StandardizedInputs
from auditor.paired import Comparison, compare, untrue

from ..symptoms import NOT_LEARNING
from ..words import count, number


class Limits(Options):
    max_ratio: float = Field(
        100.0, gt=1, description="Largest over smallest standard deviation of features before the experiment is asked."
    )
    min_gain: float = Field(
        0.3, gt=0, lt=1, description="Share of the end loss that equal scales have to remove to confirm the finding."
    )
    min_slight_gain: float = Field(
        0.15, gt=0, lt=1, description="The same for a note, where your loop learns, though more slowly."
    )
    min_gain_stuck: float = Field(
        0.04, gt=0, lt=1, description="The same where your loop does not get below the start with equal scales."
    )
    min_share: float = Field(
        0.5, gt=0, le=1, description="Share of the gain of full standardization that equal scales alone have to bring."
    )
    min_fall: float = Field(
        0.1, gt=0, lt=1, description="Share of the first loss that one of the loops has to remove for them to differ."
    )
    max_p_value: float = Field(0.01, gt=0, lt=1, description="Largest p-value of the paired test.")
    min_steps: int = Field(12, ge=6, description="Steps that the experiment has to run.")
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")


@rule(
    "DAT102",
    "feature-scale-mismatch",
    severity=Severity.WARNING,
    explains=(
        *NOT_LEARNING,
        "uncentered-inputs",
        "lr-too-high",
        "lr-too-low",
        "exploding-gradients",
        "nonfinite-loss",
        "dead-units",
        "saturated-activations",
        "initial-loss",
        "loss-oscillation",
        "weight-growth",
    ),
    fix="""Standardize each column with the training set's own numbers:
    `x = (x - x_train.mean(0)) / x_train.std(0)`; columns over several powers of ten first through a logarithm.""",
    references=(
        "https://scikit-learn.org/stable/auto_examples/preprocessing/plot_scaling_importance.html",
        "https://doi.org/10.1007/978-3-642-35289-8_3",
    ),
    remedies=(RemedyKind.STANDARDIZE_INPUTS,),
)
def feature_scale_mismatch(inputs: Inputs, experiment: StandardizedInputs | None, limits: Limits) -> Judgement:
    """Features or channels differ in scale by orders of magnitude, and the small ones are not learned from.

    ## What it does

    Measures the standard deviation of every column of a table, feature of a sequence or channel of an image as the
    model receives it; where the model shifts or scales them itself, as its first layer receives them. Of several inputs
    the first one is looked at that is out of the ordinary. Where they lie far apart, it replays the loop with all
    features divided by their own standard deviation, and compares the losses.

    ## Why is it bad?

    The output of a first layer is a sum over features, and so is the size of its gradient. A column in thousands drowns
    one in hundredths: the rate that keeps the large one stable is far too low for the small one, and what the small one
    could tell is learned last, or never.

    ## How it is measured

    The ratio of the largest to the smallest standard deviation is taken over features that are neither constant nor
    made of zeros and ones. Above `max-ratio`, the experiment decides: the same batches from the same weights with the
    same random numbers, as they are, standardized, and with equal scales alone (offsets kept). The finding is
    confirmed, and an error, when equal scales remove at least `min-gain` of the end loss (or `min-gain-stuck`, where
    your loop ends no lower than the one with equal scales *begins*), significantly by a paired test, and bring at least
    `min-share` of what full standardization brings. A gain of `min-slight-gain` is a note. Without the experiment, or
    where neither loop has come `min-fall` below the start yet, as in a warm-up, the rule is inconclusive.

    ## When it may be wrong

    - A first layer that normalizes, one-hot columns and token ids are not judged.
    - Coordinates in one unit, or columns that matter in proportion to their scale, pass: the effect decides.
    - The horizon is short: given time, an adaptive optimizer may make up for it.

    ## How to fix

    ```python
    mean, std = x_train.mean(0), x_train.std(0)     # of the training set only
    x_train, x_test = (x_train - mean) / std, (x_test - mean) / std
    ```
    """
    if inputs.normalized_first:
        raise NotApplicable(f"the first layer ({inputs.first_layer or 'a normalization'}) normalizes the inputs")
    ratio = inputs.scale_ratio
    if ratio is None or not math.isfinite(ratio):
        raise NotApplicable("the inputs have no two columns or channels of continuous values")
    noun = "channel" if inputs.kind == "image" else "feature"
    text = f"{noun} {inputs.widest} varies {number(ratio)} times as much as {noun} {inputs.narrowest}"
    yield Measured(ratio, limits.max_ratio, text)
    if ratio <= limits.max_ratio:
        return
    if experiment is None or (experiment.rescaled is None and _standardizing_helps(experiment, limits)):
        raise Inconclusive(f"{text}: only the experiment with equal scales tells whether that harms")
    if experiment.rescaled is None and _nothing_learned(experiment, limits):
        raise Inconclusive(
            f"{text}: neither as they are nor standardized did the loop learn anything in the "
            f"{count(len(experiment.looks[0].control), 'step')} that were compared"
        )
    if experiment.rescaled is None or not experiment.looks or untrue(experiment.fidelity, limits.max_fidelity):
        return
    full, scaled = compare(experiment.looks[0]), compare(experiment.rescaled)
    if scaled.steps < limits.min_steps:
        raise Inconclusive(f"{text}: needs {limits.min_steps} steps with equal scales, saw {scaled.steps}")
    shown = f"{text}; loss after {count(scaled.steps, 'step')}: {_ends(scaled)}"
    yield Measured(scaled.gain, _due(scaled, limits), shown)
    slight = not _helps(scaled, limits)
    if (not slight or _helps_slightly(scaled, limits)) and scaled.gain >= limits.min_share * full.gain:
        yield Finding(
            message=(
                f"{text}: with equal scales the loss after {count(scaled.steps, 'step')} is "
                f"{number(scaled.treated_end)} instead of {number(scaled.control_end)}"
            ),
            where=inputs.first_layer,
            location=inputs.location or inputs.model_location,
            measured=ratio,
            limit=limits.max_ratio,
            severity=Severity.NOTE if slight else Severity.ERROR,
            confidence=Confidence.CONFIRMED,
            detail=(f"same batches, same weights: {_ends(scaled)} (p = {number(scaled.p_value)})",),
        )


def _helps(look: Comparison, limits: Limits) -> bool:
    if look.treated_diverged:
        return False
    return look.control_diverged or (look.p_value <= limits.max_p_value and look.gain >= _due(look, limits))


def _helps_slightly(look: Comparison, limits: Limits) -> bool:
    return not look.treated_diverged and look.p_value <= limits.max_p_value and look.gain >= limits.min_slight_gain


def _due(look: Comparison, limits: Limits) -> float:
    """The gain that counts: little where the raw arm never gets below the level at which the other one begins."""
    return limits.min_gain_stuck if look.stuck else limits.min_gain


def _standardizing_helps(experiment: StandardizedInputs, limits: Limits) -> bool:
    return bool(experiment.looks) and _helps(compare(experiment.looks[0]), limits)


def _nothing_learned(experiment: StandardizedInputs, limits: Limits) -> bool:
    looks = [compare(look) for look in experiment.looks[:1]]
    return any(
        not look.signed and not look.control_diverged and max(look.control_fall, look.treated_fall) < limits.min_fall
        for look in looks
    )


def _ends(look: Comparison) -> str:
    return f"{number(look.control_end)} as they are, {number(look.treated_end)} with equal scales"
