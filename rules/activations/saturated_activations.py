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
    NotApplicable,
    Options,
    Severity,
    rule,
)
from auditor.evidence import (
    CalmedRecurrence,
    ForwardScale,
    RecurrentScale,
    Reinitialized,
    RemedyKind,
    SaturatedLayer,
    Saturation,
)
from auditor.paired import Comparison, compare, untrue

from ..redrawn import all_better, long_looks
from ..symptoms import NOT_LEARNING
from ..words import count, named, number, percent


class Limits(Options):
    max_share: float = Field(
        0.5, gt=0, lt=1, description="Largest share of a layer's outputs that may be flat, at the start and the end."
    )
    max_harmful_share: float = Field(
        0.2, gt=0, lt=1, description="The same where the loop learns better with weights drawn anew."
    )
    min_samples: int = Field(100, ge=1, description="Samples that each unit has to have seen.")
    max_flat_gates: float = Field(
        0.05, gt=0, lt=1, description="Largest share of a recurrent layer's gates that may be flat at the start."
    )
    min_gain: float = Field(
        0.15, gt=0, lt=1, description="Share of the end loss that recurrent weights drawn anew have to remove."
    )
    min_fall: float = Field(
        0.1, gt=0, lt=1, description="A loss that falls by this share with your weights is making progress."
    )
    min_large_gain: float = Field(
        0.3, gt=0, lt=1, description="The same share for a loss that makes progress with your weights too."
    )
    max_driven_gates: float = Field(
        0.2, gt=0, lt=1, description="Largest share of a recurrent layer's gates that its inputs may make flat."
    )
    min_slight_gain: float = Field(
        0.1, gt=0, lt=1, description="Share of the end loss that standardized inputs of that layer remove, for a note."
    )
    max_p_value: float = Field(0.01, gt=0, lt=1, description="Largest p-value of the paired test.")
    min_steps: int = Field(12, ge=6, description="Steps that a look has to have.")
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")


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
    remedies=(
        RemedyKind.REINITIALIZE,
        RemedyKind.STANDARDIZE_INPUTS,
        RemedyKind.RELU_UNITS,
    ),
)
def saturated_activations(
    saturation: Saturation | None,
    scale: ForwardScale | None,
    again: Reinitialized | None,
    calmed: CalmedRecurrence | None,
    limits: Limits,
) -> Judgement:
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
    outputs are flat at the first sampled steps and still at the last third of them; more than `max-harmful-share` is
    enough where replays with weights drawn anew end lower, as init-scale asks. Only activations that a further
    layer reads are looked at. The gates inside a recurrent layer are worked out from what it received and returned in
    the first forward; where more than `max-flat-gates` of them are flat and the recurrent weights are more than 3 times
    1 / sqrt(fan-in), the loop is replayed with weights drawn anew, and has to end as much lower as init-scale asks.
    Where more than `max-driven-gates` are flat, but at most half as many were if each feature of what the layer
    receives was standardized, the loop is replayed with just that: shifted and scaled by constants, before the layer.
    It fails where the loss ends as much lower in both looks as init-scale asks; where it ends lower by
    `min-slight-gain` in both, it is a note.

    ## When it may be wrong

    - Gates of LSTM and GRU cells, attention weights, squeeze-and-excite factors and the model's last activation are
      left out, told by what becomes of their result: gates are multiplied with something, outputs go to no layer.
    - Several layers or directions, or packed sequences, are judged by the first layer in its forward direction. Layers
      that are given a state to start from are judged only together with their results.
    - Units that are to become binary (hashing, straight-through estimators) start unsaturated, and pass at the start.
    - It is a statistic: whether the saturation costs anything is for vanishing-gradients and the loss to say.

    ## How to fix

    ```python
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, gain=nn.init.calculate_gain("tanh"))
    ```
    """
    layers = saturation.layers if saturation is not None else ()
    recurrent = [each for each in (scale.recurrent if scale is not None else ()) if each.flat is not None]
    if not layers and not recurrent:
        raise NotApplicable("no tanh, sigmoid or hardtanh inside the model was seen")
    gated = [each for each in recurrent if (each.flat or 0.0) > limits.max_flat_gates]
    better = _without_them(gated, again, limits)
    judged = [layer for layer in layers if layer.units > 0 and layer.samples >= limits.min_samples]
    for each in gated if better else ():
        yield _gates(each, better, limits)
    yield from _driven(recurrent, calmed, limits)
    if not judged and recurrent:
        worst_gates = max(recurrent, key=lambda each: each.flat or 0.0)
        share = f"{percent(worst_gates.flat or 0.0)} of the gates of {named(worst_gates.name)} are flat at the start"
        yield Measured(worst_gates.flat or 0.0, limits.max_flat_gates, share)
        return
    if not judged:
        most = max((layer.samples for layer in layers), default=0)
        raise Inconclusive(f"needs {limits.min_samples} samples of a layer, saw {most}")
    worst = max(judged, key=_share)
    yield Measured(
        _share(worst),
        limits.max_share,
        f"{percent(_share(worst))} of the outputs of {named(worst.name)} have less than 1 % of the largest slope",
    )
    over = [layer for layer in judged if _share(layer) > limits.max_share]
    for layer in over:
        yield _finding(layer, limits)
    harmful = [layer for layer in judged if _share(layer) > limits.max_harmful_share and _redrawn(layer, again)]
    better = all_better(long_looks(again, limits), limits) if harmful and again is not None and not over else []
    if better and again is not None and not untrue(again.fidelity, limits.max_fidelity):
        yield _harm(max(harmful, key=_share), better, limits)


def _redrawn(layer: SaturatedLayer, again: Reinitialized | None) -> bool:
    return again is not None and (not again.extreme or layer.name in again.extreme)


def _harm(layer: SaturatedLayer, looks: list[Comparison], limits: Limits) -> Finding:
    shown = looks[0]
    return Finding(
        message=(
            f"{percent(_share(layer))} of the outputs of {named(layer.name)} sit at the flat ends of their "
            f"{layer.function}, from the first step to the last; with weights drawn anew the loss after "
            f"{count(shown.steps, 'step')} is {number(shown.treated_end)} instead of {number(shown.control_end)}"
        ),
        where=layer.name,
        location=layer.location,
        measured=_share(layer),
        limit=limits.max_harmful_share,
        confidence=Confidence.CONFIRMED,
        since=0,
    )


def _without_them(gated: list[RecurrentScale], again: Reinitialized | None, limits: Limits) -> list[Comparison]:
    """The replays with recurrent weights drawn anew, where they are better; gates may well be flat for a reason."""
    redrawn = again is not None and any(each.name in again.extreme for each in gated)
    if not redrawn or again is None or untrue(again.fidelity, limits.max_fidelity):
        return []
    return all_better(long_looks(again, limits), limits)


def _gates(layer: RecurrentScale, looks: list[Comparison], limits: Limits) -> Finding:
    shown = looks[0]
    return Finding(
        message=(
            f"{percent(layer.flat or 0.0)} of the gates and candidates of {named(layer.name)} are flat from the start; "
            f"with weights drawn anew the loss after {count(shown.steps, 'step')} is {number(shown.treated_end)} "
            f"instead of {number(shown.control_end)}"
        ),
        where=layer.name,
        location=layer.location,
        measured=layer.flat or 0.0,
        limit=limits.max_flat_gates,
        confidence=Confidence.CONFIRMED,
        detail=(f"its recurrent weights have {number(layer.gain)} times the std 1 / sqrt(fan-in)",),
    )


def _driven(recurrent: list[RecurrentScale], calmed: CalmedRecurrence | None, limits: Limits) -> Judgement:
    """Layers that are saturated by the scale of what they receive."""
    if calmed is None or untrue(calmed.fidelity, limits.max_fidelity):
        return
    looks = long_looks(calmed, limits)
    better = all_better(looks, limits)
    slightly = [compare(look) for look in looks]
    ahead = len(slightly) > 1 and all(
        look.gain >= limits.min_slight_gain and look.p_value <= limits.max_p_value and not look.treated_diverged
        for look in slightly
    )
    if not better and not ahead:
        return
    shown = (better or slightly)[0]
    for layer in recurrent:
        if layer.name in calmed.layers and (layer.flat or 0.0) > limits.max_driven_gates:
            yield Finding(
                message=(
                    f"{percent(layer.flat or 0.0)} of the units of {named(layer.name)} are flat from the start, by the "
                    f"scale of what it receives; with that standardized the loss after {count(shown.steps, 'step')} is "
                    f"{number(shown.treated_end)} instead of {number(shown.control_end)}"
                ),
                where=layer.name,
                location=layer.location,
                measured=layer.flat or 0.0,
                limit=limits.max_driven_gates,
                severity=Severity.WARNING if better else Severity.NOTE,
                confidence=Confidence.CONFIRMED,
                detail=(f"with standardized inputs {percent(layer.flat_standardized or 0.0)} of them would be",),
                fix=(
                    "Bring what the layer receives to unit scale: standardize the data, leave out a factor on "
                    "embeddings, or put a normalization before it."
                ),
            )


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
