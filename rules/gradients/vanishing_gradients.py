"""GRD102: gradients fade on their way back to the first layers, which do not learn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import takewhile

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
from auditor.evidence import FrozenEarly, Gradients, LayerGradients, Overfit, Program, RemedyKind, Updates
from auditor.paired import untrue
from auditor.series import finite, middle, tail

from ..symptoms import NOT_LEARNING
from ..words import count, listing, named, number


class Limits(Options):
    min_ratio: float = Field(
        1e-3, gt=0, lt=1, description="Smallest gradient per weight of the first layers, over that of the last."
    )
    min_update: float = Field(
        1e-5, gt=0, lt=1, description="Smallest update of an early weight per step, over the weight."
    )
    min_relative_update: float = Field(
        0.01, gt=0, lt=1, description="Smallest update of an early weight, over that of the last weights."
    )
    min_trend: float = Field(
        0.7, gt=0, lt=1, description="Smallest rank correlation of the gradient's size with depth that is a trend."
    )
    steep_ratio: float = Field(
        1e-5, gt=0, lt=1, description="The same below which the experiment alone decides, whatever the updates."
    )
    hopeless_ratio: float = Field(
        1e-2, gt=0, lt=1, description="The same where a few samples cannot be learned by heart at any rate tried."
    )
    min_last_update: float = Field(
        1e-4, gt=0, lt=1, description="Update per step of the last weights, over the weight, that goes with it."
    )
    steep_trend: float = Field(0.9, gt=0, le=1, description="The trend that goes with it.")
    max_effect: float = Field(
        1e-3, gt=0, lt=1, description="Largest share of the loss by which freezing the early layers may change it."
    )
    min_layers: int = Field(4, ge=3, description="Layers with a gradient.")
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")


@rule(
    "GRD102",
    "vanishing-gradients",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, "update-ratio"),
    fix="""Use ReLU-like activations with fitting initial weights, `nn.init.kaiming_normal_(layer.weight)`, and
    normalization (`nn.BatchNorm1d`, `nn.LayerNorm`) or residual connections between the layers.""",
    references=(
        "https://proceedings.mlr.press/v9/glorot10a.html",
        "https://arxiv.org/abs/1502.01852",
        "https://arxiv.org/abs/1512.03385",
    ),
    remedies=(RemedyKind.REINITIALIZE, RemedyKind.RELU_UNITS),
)
def vanishing_gradients(
    gradients: Gradients,
    updates: Updates,
    program: Program | None,
    frozen: FrozenEarly | None,
    overfit: Overfit | None,
    limits: Limits,
) -> Judgement:
    """The first layers get gradients so small that they never change: only the last layers learn.

    ## What it does

    Compares the gradient per weight of the first layers with that of the last ones, the size of the updates that the
    first layers really get, and what freezing them does to the loss.

    ## Why is it bad?

    Each layer multiplies the gradient by its weights and by the slope of its activation. Where the product stays below
    one (sigmoid and tanh in many layers, weights that start too small), it fades exponentially with depth. The first
    layers keep their random weights, and what they lose of the input is lost to the layers above.

    ## How it is measured

    Three conditions have to come together:

    - the gradient per weight (RMS) of the first layers is below `min-ratio` of that of the last two, in the median over
      the steps, and it rises with depth (rank correlation of `min-trend` or more over all layers);
    - the updates of these layers are below `min-update` of their weights per step, and below `min-relative-update` of
      what the last layers get. This is what counts with Adam, which rescales small gradients;
    - by experiment, with the program as its own control: the loop is replayed from the same weights on the same
      batches, once as it is and once without these layers' gradients. The losses agree to within `max-effect`, so the
      layers contribute nothing.

    Without the experiment the finding is a warning. Where the first layers' gradient is below `steep-ratio` of the
    last ones', with a trend of `steep-trend`, the last layers do move (`min-last-update`), and the loss has not come
    down either, the experiment is enough: Adam then moves these layers, but along the noise. So it is below
    `hopeless-ratio` where, besides, a few samples cannot be learned by heart at any rate tried: larger steps do not
    help these layers either.

    ## When it may be wrong

    - The queries and keys of attention get small gradients while attention is even; that is no trend with depth.
    - Zero-initialized branches and gates pass gradients on after a few steps; the median over the steps is taken.
    - Frozen layers and embeddings of rare tokens get no or few gradients for other reasons; layers without gradients
      and embeddings are left out.
    - A rate that is far too low makes all updates small; there, the gradients do not fade with depth.

    ## How to fix

    ```python
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    ```
    """
    layers = _profile(gradients, program)
    if len(layers) < limits.min_layers:
        raise NotApplicable(f"needs {limits.min_layers} layers with a gradient, the model has {len(layers)}")
    reference = middle([layer.size for layer in layers[-2:]])
    if not reference > 0:
        raise Inconclusive("the last layers have no gradient either")
    early = _fading(layers, limits.min_ratio * reference)
    ratio = layers[0].size / reference
    yield Measured(
        ratio,
        limits.min_ratio,
        f"gradient per weight of {named(layers[0].name)}, over that of the last layers: {number(ratio)}",
    )
    moving = {layer.name: _update(updates, layer.name) for layer in layers}
    last = middle([_update(updates, layer.name) for layer in layers[-2:]])
    bound = min(limits.min_update, limits.min_relative_update * last) if last > 0 else limits.min_update
    still = [layer for layer in early if math.isfinite(moving[layer.name]) and moving[layer.name] < bound]
    trend = _trend([layer.size for layer in layers])
    effect = _effect(frozen, limits)
    steep = limits.hopeless_ratio if _hopeless(overfit, limits) else limits.steep_ratio
    if not still and last >= limits.min_last_update and ratio < steep and trend >= limits.steep_trend:
        faded = _fading(layers, max(limits.min_ratio, steep) * reference)
        still = faded if _useless(effect, frozen, limits) else []
    if not still or still[0] is not layers[0] or trend < limits.min_trend:
        return
    if effect is not None and effect > limits.max_effect:
        return
    yield _finding(still, layers, reference, moving, frozen, effect, limits)


@dataclass(frozen=True)
class _Layer:
    name: str
    size: float  # RMS of the gradient, median over the steps
    seen: LayerGradients


def _profile(gradients: Gradients, program: Program | None) -> list[_Layer]:
    """Layers with weights in the order of the first forward; norms and embeddings apart."""
    counts = {layer.name: layer.parameters for model in program.models for layer in model.layers} if program else {}
    found = []
    for layer in gradients.layers:
        if "Norm" in layer.kind or "Embedding" in layer.kind or layer.name.startswith("("):
            continue
        norms = finite(layer.norms)
        if norms and any(norms):
            size = middle(norms) / math.sqrt(max(1, counts.get(layer.name, 1)))
            found.append(_Layer(layer.name, size, layer))
    return found


def _trend(sizes: list[float]) -> float:
    """Kendall's rank correlation of the sizes with their order: 1 when each layer's is larger than those before."""
    pairs = [(a, b) for i, a in enumerate(sizes) for b in sizes[i + 1 :]]
    return sum((b > a) - (b < a) for a, b in pairs) / len(pairs) if pairs else 0.0


def _update(updates: Updates, name: str) -> float:
    """Median update over weight of the layer's weight matrix; NaN when it was not measured."""
    ratios = [ratio for layer in updates.layers if layer.name == f"{name}.weight" for ratio in finite(layer.ratios)]
    return middle(ratios)


def _effect(frozen: FrozenEarly | None, limits: Limits) -> float | None:
    """Largest relative difference between the losses of both arms over the later third; None without experiment."""
    if frozen is None or untrue(frozen.fidelity, limits.max_fidelity):
        return None
    steps = min(len(frozen.control), len(frozen.frozen))
    pairs = list(zip(tail(frozen.control[:steps]), tail(frozen.frozen[:steps]), strict=True))
    if not pairs:
        return None
    worst = max(abs(a - b) / max(abs(a), abs(b), 1e-30) if a != b else 0.0 for a, b in pairs)
    return worst if math.isfinite(worst) else math.inf


def _fading(layers: list[_Layer], bound: float) -> list[_Layer]:
    """The first layers with smaller gradients than that."""
    return list(takewhile(lambda layer: layer.size < bound, layers[:-2]))


def _useless(effect: float | None, frozen: FrozenEarly | None, limits: Limits) -> bool:
    """The loss does not need these layers, and it has not come down with them either."""
    if frozen is None or effect is None:
        return False
    stuck = middle(tail(frozen.control)) > 0.95 * middle(frozen.control[:3])
    return stuck and effect <= limits.max_effect


def _hopeless(overfit: Overfit | None, limits: Limits) -> bool:
    """A few samples could not be learned by heart, at the loop's own rate and at others."""
    if overfit is None or untrue(overfit.fidelity, limits.max_fidelity) or overfit.floor is None:
        return False
    return len(overfit.arms) > 1 and not any(arm.reached for arm in overfit.arms)


def _finding(
    still: list[_Layer],
    layers: list[_Layer],
    reference: float,
    moving: dict[str, float],
    frozen: FrozenEarly | None,
    effect: float | None,
    limits: Limits,
) -> Finding:
    first = still[0]
    ratio = first.size / reference
    detail = [
        "gradient per weight, first to last: " + ", ".join(number(layer.size) for layer in layers[:12]),
        f"updates of {named(first.name)} are {number(moving[first.name])} of its weights per step",
    ]
    if frozen is not None and effect is not None:
        detail.append(
            f"replayed with {count(len(frozen.layers), 'early layer')} frozen, the losses differ by {number(effect)} "
            "of their size at most: these layers contribute nothing"
        )
    names = listing([named(layer.name) for layer in still])
    return Finding(
        message=(
            f"gradients vanish on the way to the first layers: per weight, {named(first.name)} gets {number(ratio)} of "
            f"what the last layers get, and {names} {'does' if len(still) == 1 else 'do'} not learn"
        ),
        where=first.name,
        location=first.seen.location,
        measured=ratio,
        limit=limits.min_ratio if ratio < limits.min_ratio else limits.hopeless_ratio,
        severity=Severity.ERROR if effect is not None else Severity.WARNING,
        confidence=Confidence.CONFIRMED if effect is not None else Confidence.SUSPECTED,
        detail=tuple(detail),
    )
