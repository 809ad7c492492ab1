"""FIT108: the batch is far from the size that the gradient's noise asks for."""

from __future__ import annotations

import math

from pydantic import Field

from auditor.declare import Confidence, Finding, Inconclusive, Judgement, Measured, Options, Severity, rule
from auditor.evidence import HeldWeights
from auditor.paired import untrue

from ..words import number, percent


class Limits(Options):
    max_ratio: float = Field(
        20.0, gt=1, description="Noise scale over batch size, or the other way round, from which it is worth a note."
    )
    min_gradients: int = Field(8, ge=3, description="Gradients of different batches at the same weights.")
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")


@rule(
    "FIT108",
    "gradient-noise",
    severity=Severity.NOTE,
    fix="""Where the noise scale is far larger, a larger `batch_size` (or accumulation) lets the rate rise in
    proportion; where it is far smaller, a smaller `batch_size` takes as many steps and less time each.""",
    references=(
        "https://arxiv.org/abs/1812.06162",
        "https://arxiv.org/abs/1711.00489",
    ),
)
def gradient_noise(held: HeldWeights, limits: Limits) -> Judgement:
    """The gradient noise scale says that another batch size would use the time better.

    ## What it does

    Measures the gradients of several batches at the same weights, in the middle of the probe, and from them the simple
    noise scale: the batch size at which signal and noise in the gradient are equal.

    ## Why is it bad?

    It is no fault. With a batch far below the noise scale, a step mostly follows the noise of its few samples, and two
    steps do little more than one of twice the batch. Far above it, further samples only confirm what is known already.

    ## How it is measured

    By experiment: the loop is replayed with the learning rate at 0 from the middle on, so that K batches of size B
    give gradients g at one point. With m the mean of |g|^2 and s the squared norm of the mean gradient, |G|^2 is
    estimated by (K s - m) / (K - 1), the noise per sample by B K (m - s) / (K - 1), and the noise scale is their ratio
    (McCandlish et al., 2018). A note is given beyond a factor of `max-ratio`.

    ## When it may be wrong

    - The noise scale grows during training: early in a run it is small.
    - Where the signal is lost in the noise of the measured batches, the estimate is infinite; the lower bound noise
      over s is compared with the limit then.
    - Below one sample there is next to no noise: each batch gives the same gradient, as where nothing is learned.
    - Batch normalization ties the samples of a batch together, and a good batch size depends on it too.

    ## How to fix

    ```python
    loader = DataLoader(data, batch_size=256, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr * 256 / 32)    # from a batch of 32
    ```
    """
    if untrue(held.fidelity, limits.max_fidelity):
        raise Inconclusive(f"the replay differs from the observed run by {percent(held.fidelity or 0.0)}")
    amount, batch = held.gradients, held.batch_size
    if amount < limits.min_gradients or not batch:
        raise Inconclusive(f"needs the gradients of {limits.min_gradients} batches of known size, saw {amount}")
    if not all(math.isfinite(value) for value in (held.mean_square, held.square_mean)) or held.mean_square <= 0:
        raise Inconclusive("the gradients are zero or not finite")
    signal = (amount * held.square_mean - held.mean_square) / (amount - 1)
    noise = batch * amount * (held.mean_square - held.square_mean) / (amount - 1)
    # The squared norm of the mean still holds a K-th of the noise, so this one is a lower bound.
    least = max(noise, 0.0) / held.square_mean if held.square_mean > 0 else math.inf
    scale = max(noise, 0.0) / signal if signal > 0 else math.inf
    about = f"is about {number(scale)}" if math.isfinite(scale) else f"exceeds {number(least)}"
    ratio = least / batch if scale > batch else scale / batch
    text = f"the gradient noise scale {about} samples, the batch has {batch}"
    yield Measured(ratio, limits.max_ratio, text)
    if 1 / limits.max_ratio <= ratio <= limits.max_ratio or scale < 1:
        return
    larger = ratio > 1
    yield Finding(
        message=(
            f"{text}: "
            + (
                "a step follows mostly noise, and a larger batch would pay"
                if larger
                else "a smaller batch would do as well"
            )
        ),
        location=held.location,
        measured=ratio,
        limit=limits.max_ratio if larger else 1 / limits.max_ratio,
        confidence=Confidence.CONFIRMED,
        detail=(f"from {amount} batches at the same weights",),
    )
