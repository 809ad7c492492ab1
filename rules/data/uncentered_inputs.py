"""DAT101: the model's inputs are far from zero mean and unit size."""

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
from auditor.evidence import Inputs, RemedyKind, StandardizedInputs, is_flag
from auditor.paired import Comparison, compare, untrue

from ..symptoms import NOT_LEARNING
from ..words import count, number, percent


class Limits(Options):
    max_offset: float = Field(1.0, gt=0, description="Largest |mean|/std of a channel before the experiment is asked.")
    max_value: float = Field(20.0, gt=0, description="Largest |x| before the experiment is asked.")
    extreme_offset: float = Field(3.0, gt=0, description="|mean|/std above which a warning needs no experiment.")
    narrow_offset: float = Field(10.0, gt=0, description="|mean|/std above which even inputs within 1.5 are judged.")
    extreme_size: float = Field(50.0, gt=0, description="Root mean square above which a warning needs no experiment.")
    min_gain: float = Field(
        0.3, gt=0, lt=1, description="Share of the end loss that standardizing has to remove to confirm the finding."
    )
    min_slight_gain: float = Field(
        0.15, gt=0, lt=1, description="The same for a note, where your loop learns, though more slowly."
    )
    min_gain_stuck: float = Field(
        0.04, gt=0, lt=1, description="The same where your loop does not get below the standardized start."
    )
    max_p_value: float = Field(0.01, gt=0, lt=1, description="Largest p-value of the paired test of an experiment.")
    min_steps: int = Field(12, ge=6, description="Steps that an experiment has to run.")
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")


@rule(
    "DAT101",
    "uncentered-inputs",
    severity=Severity.WARNING,
    explains=(
        *NOT_LEARNING,
        "shuffled-labels",
        "lr-too-high",
        "exploding-gradients",
        "nonfinite-loss",
        "dead-units",
        "initial-loss",
        "loss-oscillation",
        "weight-growth",
    ),
    fix="""Standardize the inputs with the training set's own numbers:
    `x = (x - x_train.mean(0)) / x_train.std(0)`, for images `transforms.Normalize(mean, std)`.""",
    references=(
        "https://cs231n.github.io/neural-networks-2/",
        "https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.Normalize.html",
        "https://scikit-learn.org/stable/modules/generated/sklearn.preprocessing.StandardScaler.html",
    ),
    remedies=(RemedyKind.STANDARDIZE_INPUTS,),
)
def uncentered_inputs(inputs: Inputs, experiment: StandardizedInputs | None, limits: Limits) -> Judgement:
    """The model is fed inputs with a large offset or scale, and that slows or stops its training.

    ## What it does

    Measures the inputs as the model receives them. Where they are far from zero mean and unit size, it replays the
    loop with standardized inputs and compares the losses.

    ## Why is it bad?

    The gradient of the first layer is proportional to the inputs. When they share an offset, all its weights are pushed
    up or down together; when they are large, one step overshoots, units saturate or die, and the rate that would
    suit the other layers is too high for this one.

    ## How it is measured

    Inputs are suspicious when a channel or feature has |mean|/std above `max-offset`, or a value exceeds `max-value`.
    Then the experiment decides: the same batches from the same weights with the same random numbers, once as they are
    and once standardized. The finding is confirmed, and an error, when standardizing removes at least `min-gain` of the
    end loss (or `min-gain-stuck`, where your loop ends no lower than the standardized one *begins*), significantly by
    a paired test and in two looks; one look is enough for extreme inputs. A gain of `min-slight-gain` in two looks is
    a note. If it does not help, the rule passes. Without the experiment only extreme inputs are reported, as a warning.

    ## When it may be wrong

    - A first layer that normalizes, one-hot and bag-of-words inputs and token ids are not judged.
    - Values within [-1.5, 1.5], such as images in [0, 1], pass unless their mean is `narrow-offset` times their spread.
    - Constant features (a column of ones) have no offset to speak of and are left out.
    - Log-mel spectrograms, coordinates and other natural units are suspicious only; their effect decides.
    - The horizon is short. Inputs that merely slow the first steps down may be made up for later.

    ## How to fix

    ```python
    mean, std = x_train.mean(0), x_train.std(0)     # of the training set only
    x_train, x_test = (x_train - mean) / std, (x_test - mean) / std

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])  # images
    ```
    """
    if inputs.normalized_first:
        raise NotApplicable(f"the first layer ({inputs.first_layer or 'a normalization'}) normalizes the inputs")
    if inputs.binary_share >= 0.9 and inputs.max <= 1:
        raise NotApplicable(f"{percent(inputs.binary_share)} of the inputs are 0 or 1: one-hot or bag of words")
    if inputs.zero_share >= 0.8 and inputs.kind != "image":
        raise NotApplicable(f"{percent(inputs.zero_share)} of the inputs are 0: counts or a bag of words")
    largest = max(abs(inputs.min), abs(inputs.max))
    if not math.isfinite(largest) or not math.isfinite(inputs.mean) or not math.isfinite(inputs.std):
        raise Inconclusive("the inputs hold NaN or infinity")
    offset, channel = _worst_offset(inputs)
    text = f"|mean|/std is at most {number(offset)}{channel}, the largest value {number(largest)}"
    overall = abs(inputs.mean) / inputs.std if inputs.std > 0 else 0.0
    small = largest <= 1.5 and overall <= limits.narrow_offset
    if small or (offset <= limits.max_offset and largest <= limits.max_value):
        yield Measured(offset, limits.max_offset, text)
        return
    # Of a further input it is not known what the model does with it: there the experiment alone tells.
    extreme = not inputs.further and (
        overall > limits.extreme_offset or math.hypot(inputs.mean, inputs.std) > limits.extreme_size
    )
    looks = [compare(look) for look in experiment.looks] if experiment else []
    looks = [look for look in looks if look.steps >= limits.min_steps]
    if experiment is not None and untrue(experiment.fidelity, limits.max_fidelity):
        looks = []
    if looks:
        yield from _by_experiment(looks, inputs, text, extreme, limits)
        return
    yield Measured(offset, limits.max_offset, text)
    if not extreme:
        raise Inconclusive(f"{text}: only the experiment with standardized inputs tells whether that harms")
    yield Finding(
        message=(
            f"the inputs have mean {number(inputs.mean)} and standard deviation {number(inputs.std)}, with values from "
            f"{number(inputs.min)} to {number(inputs.max)}"
        ),
        where=inputs.first_layer,
        location=inputs.location or inputs.model_location,
        measured=offset,
        limit=limits.max_offset,
        detail=(*_detail(inputs), "the experiment with standardized inputs was not run: the effect is not known"),
        fix=_fix(inputs),
    )


def _worst_offset(inputs: Inputs) -> tuple[float, str]:
    """Largest |mean|/std with the name of its channel; constant channels and flags, which lie where they should, are
    left out."""
    noun = "channel" if inputs.kind == "image" else "feature"
    known = [
        (abs(channel.mean) / channel.std, f" (in {noun} {number})")
        for number, channel in enumerate(inputs.channels)
        if math.isfinite(channel.mean) and math.isfinite(channel.std) and channel.std > 1e-6 * abs(channel.mean)
        if not is_flag(inputs.kind, channel)
    ]
    if known:
        return max(known)
    return (abs(inputs.mean) / inputs.std if inputs.std > 0 else 0.0), ""


def _helped(look: Comparison, limits: Limits) -> bool:
    """Standardizing was clearly better in this look."""
    if look.treated_diverged:
        return False
    return look.control_diverged or (look.p_value <= limits.max_p_value and look.gain >= _due(look, limits))


def _helped_slightly(look: Comparison, limits: Limits) -> bool:
    return not look.treated_diverged and look.p_value <= limits.max_p_value and look.gain >= limits.min_slight_gain


def _due(look: Comparison, limits: Limits) -> float:
    """The gain that counts: little where the raw arm never gets below the level at which the other one begins."""
    return limits.min_gain_stuck if look.stuck else limits.min_gain


def _by_experiment(looks: Sequence[Comparison], inputs: Inputs, text: str, extreme: bool, limits: Limits) -> Judgement:
    # A later look starts from weights that are used to the raw inputs: it can support the finding, not refute it.
    first = [look for look in looks if look.start == "initial"] or list(looks)
    helped = [look for look in looks if _helped(look, limits)]
    shown = min(first, key=lambda look: look.gain)
    ends = f"{number(shown.control_end)} as they are, {number(shown.treated_end)} standardized"
    yield Measured(shown.gain, _due(shown, limits), f"{text}; loss after {count(shown.steps, 'step')}: {ends}")
    slight = not all(_helped(look, limits) for look in first)
    if slight and not (len(looks) > 1 and all(_helped_slightly(look, limits) for look in looks)):
        return
    sure = slight or extreme or len(helped) > 1
    yield Finding(
        message=(
            f"with standardized inputs the loss after {count(shown.steps, 'step')} is {number(shown.treated_end)} "
            f"instead of {number(shown.control_end)}; yours have mean {number(inputs.mean)}, standard deviation "
            f"{number(inputs.std)} and values from {number(inputs.min)} to {number(inputs.max)}"
        ),
        where=inputs.first_layer,
        location=inputs.location or inputs.model_location,
        measured=shown.gain,
        limit=_due(shown, limits),
        severity=Severity.NOTE if slight else Severity.ERROR if sure else Severity.WARNING,
        confidence=Confidence.CONFIRMED if sure else Confidence.SUSPECTED,
        detail=(
            *(
                f"{look.start} weights, same batches: {number(look.control_end)} as they are, "
                f"{number(look.treated_end)} standardized (p = {number(look.p_value)})"
                for look in looks
            ),
            *_detail(inputs),
        ),
        fix=_fix(inputs),
    )


def _detail(inputs: Inputs) -> tuple[str, ...]:
    place = inputs.worst_channel
    lines = [f"measured over {count(inputs.samples, 'sample')} of shape {tuple(inputs.shape[1:])}"]
    if place is not None and 0 <= place < len(inputs.channels):
        channel = inputs.channels[place]
        lines.append(
            f"channel {place}: mean {number(channel.mean)}, std {number(channel.std)}, "
            f"from {number(channel.min)} to {number(channel.max)}"
        )
    return tuple(lines)


def _fix(inputs: Inputs) -> str | None:
    """For images the very numbers to put into Normalize; None keeps the rule's own text."""
    if inputs.kind != "image" or not 0 < len(inputs.channels) <= 4:
        return None
    means = ", ".join(number(channel.mean) for channel in inputs.channels)
    stds = ", ".join(number(channel.std) for channel in inputs.channels)
    return f"Standardize the images: `transforms.Normalize(mean=[{means}], std=[{stds}])`, after ToTensor() if used."
