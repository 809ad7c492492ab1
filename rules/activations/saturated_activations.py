"""ACT102: hidden units sit where their activation function is flat."""

from __future__ import annotations

import math

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
from auditor.evidence import SaturatedLayer, Saturation

from ..symptoms import NOT_LEARNING
from ..words import count, named, percent


class Limits(Options):
    max_share: float = Field(
        0.5, gt=0, lt=1, description="Largest share of a layer's outputs that may be flat, at the start and the end."
    )
    min_samples: int = Field(100, ge=1, description="Samples that each unit has to have seen.")


@rule(
    "ACT102",
    "saturated-activations",
    severity=Severity.WARNING,
    explains=(*NOT_LEARNING, "vanishing-gradients"),
    fix="""Draw smaller weights, `nn.init.xavier_uniform_(layer.weight)`, standardize the inputs, or put a normalization
    before the activation.""",
    references=(
        "https://proceedings.mlr.press/v9/glorot10a.html",
        "https://arxiv.org/abs/1502.03167",
    ),
)
def saturated_activations(saturation: Saturation, limits: Limits) -> Judgement:
    """Most outputs of a tanh or sigmoid layer are stuck at its ends, where the slope is gone.

    ## What it does

    Counts, in each bounded activation inside the model, the outputs that lie where the function is flat.

    ## Why is it bad?

    At the ends of a tanh or sigmoid the slope is below a hundredth of its largest value, and all that flows back
    through such a unit is multiplied by it. The unit outputs a sign rather than a number, and the layers before it
    hardly learn. The usual causes are weights drawn too large, inputs of large scale, or a rate that has thrown the
    weights out.

    ## How it is measured

    By counting. An output is flat when the slope there is below 1 % of the largest: a tanh beyond 0.995, a sigmoid
    beyond 0.9975 or below 0.0025, a hardtanh at its bounds. A layer is reported when more than `max-share` of its
    outputs are flat at the first sampled steps and still at the last third of them. Only activations that a further
    layer reads are looked at.

    ## When it may be wrong

    - Gates of LSTM and GRU cells, attention weights, squeeze-and-excite factors and the model's last activation are
      left out, told by what becomes of their result: gates are multiplied with something, outputs go to no layer.
    - Units that are to become binary (hashing, straight-through estimators) start unsaturated, and pass at the start.
    - It is a statistic: whether the saturation costs anything is for vanishing-gradients and the loss to say.

    ## How to fix

    ```python
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, gain=nn.init.calculate_gain("tanh"))
    ```
    """
    judged = [layer for layer in saturation.layers if layer.units > 0 and layer.samples >= limits.min_samples]
    if not judged:
        most = max((layer.samples for layer in saturation.layers), default=0)
        raise Inconclusive(f"needs {limits.min_samples} samples of a layer, saw {most}")
    worst = max(judged, key=_share)
    yield Measured(
        _share(worst),
        limits.max_share,
        f"{percent(_share(worst))} of the outputs of {named(worst.name)} have less than 1 % of the largest slope",
    )
    for layer in judged:
        if _share(layer) > limits.max_share:
            yield _finding(layer, limits)


def _share(layer: SaturatedLayer) -> float:
    """Flat outputs, at the start and at the end."""
    shares = (layer.share_start, layer.share_end)
    return max(0.0, min(1.0, *shares)) if all(math.isfinite(share) for share in shares) else 0.0


def _finding(layer: SaturatedLayer, limits: Limits) -> Finding:
    return Finding(
        message=(
            f"{percent(_share(layer))} of the outputs of {named(layer.name)} sit at the flat ends of their "
            f"{layer.function}, from the first step to the last"
        ),
        where=layer.name,
        location=layer.location,
        measured=_share(layer),
        limit=limits.max_share,
        confidence=Confidence.SUSPECTED,
        detail=(
            f"outputs with less than 1 % of the slope: {percent(layer.share_start)} at first, "
            f"{percent(layer.share_end)} at the end",
            f"{layer.saturated_end} of its {count(layer.units, 'unit')} are there for nearly every sample",
        ),
    )
