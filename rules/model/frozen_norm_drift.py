"""MOD111: a frozen batch norm goes on changing its running statistics."""

from __future__ import annotations

import math

from pydantic import Field

from auditor.declare import Confidence, Finding, Judgement, Measured, NotApplicable, Options, Severity, rule
from auditor.evidence import BatchNorm, BatchNorms, RemedyKind

from ..symptoms import NOT_LEARNING
from ..words import count, listing, named, number


class Limits(Options):
    max_shift: float = Field(
        0.1, gt=0, description="Largest drift of the running mean, in running standard deviations, RMS over channels."
    )
    max_variance_ratio: float = Field(1.25, gt=1, description="Largest factor on the running variance, median channel.")


@rule(
    "MOD111",
    "frozen-norm-drift",
    severity=Severity.WARNING,
    explains=NOT_LEARNING,
    fix="""Put frozen batch norms into evaluation mode after every `model.train()`: `model.backbone.eval()`;
    `requires_grad_(False)` freezes only their weights.""",
    remedies=(RemedyKind.FROZEN_NORMS,),
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html",
        "https://docs.pytorch.org/docs/stable/notes/autograd.html#evaluation-mode-nn-module-eval",
    ),
)
def frozen_norm_drift(norms: BatchNorms, limits: Limits) -> Judgement:
    """A frozen batch norm stays in training mode, and its running statistics drift away.

    ## What it does

    Looks at batch norms whose weight and bias require no gradient, and measures how far their running mean and variance
    moved during the training steps.

    ## Why is it bad?

    `requires_grad_(False)` stops the optimizer, not the norm: in training mode it goes on normalizing by the batch and
    averages every batch into its buffers. A backbone that was to stay as it was pretrained changes with every step, its
    features depend on the other samples of the batch, and evaluation uses other statistics than training did.

    ## How it is measured

    Exactly, on the buffers: before the first step and after the last observed one. It fails when the running mean moved
    by more than `max-shift` standard deviations, or the running variance by more than `max-variance-ratio`. Where
    nothing upstream of the norm is trained either, that is a warning. Where the layers before it are trained and only
    the norm is frozen, it is a note, as its statistics may have to follow them.

    ## When it may be wrong

    - Norms in evaluation mode do not move, and pass. So do norms without a weight (`affine=False`), and norms whose
      statistics were at their defaults, as they had nothing to lose.
    - Statistics that were adapted before the training, in forward passes of their own, pass: only training steps count.
    - Adapting statistics to a new domain during training, with frozen weights, is a method. Waive it where it is meant.

    ## How to fix

    ```python
    model.train()
    model.backbone.eval()                 # running statistics stay what they are

    def train(self, mode=True):           # or once and for all, inside the model
        super().train(mode)
        self.backbone.eval()
        return self
    ```
    """
    frozen = [layer for layer in norms.layers if layer.frozen and layer.tracked and layer.filled]
    judged = [layer for layer in frozen if layer.mean_shift is not None and layer.variance_ratio is not None]
    if not judged:
        raise NotApplicable("no frozen batch norm with filled statistics ran in training mode")
    worst = max(judged, key=lambda layer: _excess(layer, limits))
    yield Measured(_shift(worst), limits.max_shift, _story(worst))
    drifting = [layer for layer in judged if _excess(layer, limits) > 1]
    for upstream in (False, True):
        layers = [layer for layer in drifting if layer.upstream_trained is upstream]
        if layers:
            yield _finding(layers, limits, upstream)


def _shift(layer: BatchNorm) -> float:
    value = layer.mean_shift
    return abs(value) if value is not None and not math.isnan(value) else 0.0


def _ratio(layer: BatchNorm) -> float:
    value = layer.variance_ratio
    return value if value is not None and not math.isnan(value) else 1.0


def _excess(layer: BatchNorm, limits: Limits) -> float:
    """Drift over its limit: above 1 is too much."""
    return max(_shift(layer) / limits.max_shift, _ratio(layer) / limits.max_variance_ratio)


def _story(layer: BatchNorm) -> str:
    return (
        f"the running mean of {named(layer.name)} moved by {number(_shift(layer))} standard deviations, its variance "
        f"by a factor of {number(_ratio(layer))}"
    )


def _finding(layers: list[BatchNorm], limits: Limits, upstream: bool) -> Finding:
    worst = max(layers, key=lambda layer: _excess(layer, limits))
    what = "frozen batch norm"
    return Finding(
        message=f"{count(len(layers), what)} stayed in training mode and drifted: {_story(worst)}",
        where=worst.name,
        location=worst.location,
        measured=_shift(worst),
        limit=limits.max_shift,
        severity=Severity.NOTE if upstream else None,
        confidence=Confidence.CONFIRMED,
        detail=(f"drifting: {listing([named(layer.name) for layer in layers], 4)}",),
    )
