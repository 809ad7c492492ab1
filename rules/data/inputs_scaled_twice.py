"""DAT103: images were divided by 255 twice, or signals by their own range."""

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
from auditor.paired import compare, untrue

from ..symptoms import NOT_LEARNING
from ..words import count, number

GREY = 1 / 255  # distance of neighbouring values in an image of 8 bits, scaled to [0, 1]


class Limits(Options):
    max_value: float = Field(0.02, gt=0, lt=1, description="Largest |x| of an image that may have been scaled twice.")
    max_signal: float = Field(0.001, gt=0, lt=1, description="The same, of inputs that are no images.")
    min_step: float = Field(
        8e-5, gt=0, description="Smallest distance of two grey values in an image of 8 bits; 1/255 is usual."
    )
    min_gain: float = Field(
        0.15, gt=0, lt=1, description="Share of the end loss that standardizing has to remove to confirm the finding."
    )
    min_gain_stuck: float = Field(
        0.04, gt=0, lt=1, description="The same where your loop does not get below the standardized start."
    )
    max_p_value: float = Field(0.01, gt=0, lt=1, description="Largest p-value of the paired test.")
    min_side: int = Field(8, ge=2, description="Height and width from which a tensor counts as an image.")
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")


@rule(
    "DAT103",
    "inputs-scaled-twice",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, "shuffled-labels", "uncentered-inputs", "lr-too-low", "broken-graph"),
    fix="""Scale once: `ToTensor()` has divided 8-bit images by 255 already, so leave out the other `/ 255`.""",
    references=(
        "https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.ToTensor.html",
        "https://github.com/4uiiurz1/pytorch-nested-unet/issues/62",
    ),
    remedies=(RemedyKind.STANDARDIZE_INPUTS,),
)
def inputs_scaled_twice(inputs: Inputs, experiment: StandardizedInputs | None, limits: Limits) -> Judgement:
    """Images or signals reach the model scaled down a second time, and almost nothing is left of them.

    ## What it does

    Looks at the size of the images' values as the model receives them, and at the distance between neighbouring grey
    values.

    ## Why is it bad?

    After a second division by 255 all values lie below 0.004. The first layer's outputs are its biases and next to
    nothing, its gradients are 255 times smaller, and at the usual rates the network learns to ignore its input. Nothing
    crashes: the loss just stays near that of a constant answer.

    ## How it is measured

    By identity where the images come from 8 bits: their values are evenly spaced, at most 256 different ones, and once
    scaled lie 1/255 apart. A spacing below `min-step` proves a second division, even behind a normalization. Other
    images with no value above `max-value`, and other inputs with none above `max-signal`, are judged by experiment:
    the same batches from the same weights, as they are and standardized; the finding is confirmed when standardizing
    removes `min-gain` of the end loss (or `min-gain-stuck`, where your loop ends no lower than the standardized one
    begins), by a paired test.

    ## When it may be wrong

    - An image has one to four channels and at least `min-side` pixels a side.
    - Signals may be that small by nature (volts, metres): then they need a scale as well, and the finding is the same.
    - A first layer that normalizes undoes the second division; the rule does not apply.
    - Images of one or two grey values have no spacing that could be told.

    ## How to fix

    ```python
    image = torch.from_numpy(array).float() / 255      # once
    transform = transforms.ToTensor()                  # or this, which divides by itself
    ```
    """
    largest = max(abs(inputs.min), abs(inputs.max))
    image = _is_image(inputs, limits)
    ceiling = limits.max_value if image else limits.max_signal
    if not image and not 0 < largest < ceiling:
        raise NotApplicable(f"the inputs are no images, and not small: the largest value is {number(largest)}")
    if inputs.normalized_first:
        raise NotApplicable(f"the first layer ({inputs.first_layer or 'a normalization'}) normalizes the inputs")
    if not math.isfinite(inputs.min + inputs.max):
        raise Inconclusive("the inputs hold NaN or infinity")
    step = inputs.grey_step if image else None
    if step is not None and step > 0:
        text = f"neighbouring grey values lie {number(step)} apart, {number(GREY / step)} times closer than 1/255"
        yield Measured(step, limits.min_step, text)
        if step < limits.min_step:
            yield _finding(inputs, text, step, limits.min_step, Confidence.CONFIRMED)
        return
    text = f"the largest value is {number(largest)}"
    yield Measured(largest, ceiling, text)
    if largest >= ceiling or largest == 0:
        return
    if experiment is None or not experiment.looks or untrue(experiment.fidelity, limits.max_fidelity):
        raise Inconclusive(f"{text}: only the experiment with standardized inputs tells whether that harms")
    look = compare(experiment.looks[0])
    due = limits.min_gain_stuck if look.stuck else limits.min_gain
    helped = not look.treated_diverged and look.p_value <= limits.max_p_value and look.gain >= due
    ends = f"{number(look.control_end)} as they are, {number(look.treated_end)} standardized"
    yield Measured(look.gain, due, f"{text}; loss after {count(look.steps, 'step')}: {ends}")
    if helped:
        yield _finding(inputs, f"{text}; loss: {ends}", largest, ceiling, Confidence.CONFIRMED)


def _is_image(inputs: Inputs, limits: Limits) -> bool:
    shape = inputs.shape
    return inputs.kind == "image" and len(shape) == 4 and shape[1] <= 4 and min(shape[2:]) >= limits.min_side


def _finding(inputs: Inputs, text: str, measured: float, limit: float, confidence: Confidence) -> Finding:
    what = "images" if inputs.kind == "image" else "inputs"
    return Finding(
        message=(
            f"the {what} were scaled down twice: their values lie between {number(inputs.min)} and "
            f"{number(inputs.max)} with a standard deviation of {number(inputs.std)}"
        ),
        where=inputs.first_layer,
        location=inputs.location or inputs.model_location,
        measured=measured,
        limit=limit,
        confidence=confidence,
        detail=(text,),
    )
