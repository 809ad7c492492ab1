"""INI102: the initial weights let the signal fade or blow up from layer to layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

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
from auditor.evidence import Activations, ForwardScale, LayerScale, Location, Reinitialized, RemedyKind
from auditor.paired import Comparison, untrue

from ..redrawn import RECURRENT_GAIN, all_better, long_looks
from ..symptoms import NOT_LEARNING
from ..words import count, named, number


class Limits(Options):
    max_drift: float = Field(
        10.0, gt=1, description="Largest factor between the output sizes of the first and the last hidden layer."
    )
    max_signal_drift: float = Field(
        1e4, gt=1, description="The same of what differs between samples, which torch's own start lets fade too."
    )
    min_fit: float = Field(0.8, gt=0, lt=1, description="Smallest R² of the trend of the logarithm.")
    min_usual: float = Field(
        0.5, gt=0, description="Smallest usual std of a layer's weights, times the root of the fan-in; torch's: 0.58."
    )
    max_usual: float = Field(2.0, gt=0, description="The largest; He's is 1.41.")
    min_layers: int = Field(3, ge=3, description="Hidden layers that the model has to have.")
    min_gain: float = Field(
        0.15, gt=0, lt=1, description="Share of the end loss that weights drawn anew have to remove."
    )
    min_fall: float = Field(
        0.1, gt=0, lt=1, description="A loss that falls by this share with your weights is making progress."
    )
    min_large_gain: float = Field(
        0.6, gt=0, lt=1, description="The same share for a loss that makes progress with your weights too."
    )
    max_p_value: float = Field(0.01, gt=0, lt=1, description="Largest p-value of the paired test.")
    min_steps: int = Field(12, ge=6, description="Steps that a look has to have.")
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")


@rule(
    "INI102",
    "init-scale",
    severity=Severity.WARNING,
    explains=(
        *NOT_LEARNING,
        "vanishing-gradients",
        "update-ratio",
        "exploding-gradients",
        "saturated-activations",
        "lr-too-high",
        "dead-units",
        "nonfinite-loss",
        "loss-oscillation",
        "weight-growth",
    ),
    fix="""Scale the weights by their fan-in and the activation: `nn.init.kaiming_normal_(layer.weight)` before ReLU,
    `nn.init.xavier_normal_(layer.weight)` before tanh.""",
    references=(
        "https://proceedings.mlr.press/v9/glorot10a.html",
        "https://arxiv.org/abs/1502.01852",
        "https://docs.pytorch.org/docs/stable/nn.init.html",
    ),
    remedies=(RemedyKind.REINITIALIZE,),
)
def init_scale(
    scale: ForwardScale, again: Reinitialized | None, activations: Activations | None, limits: Limits
) -> Judgement:
    """The initial weights are of the wrong size: the signal shrinks or grows exponentially through the layers.

    ## What it does

    Measures the standard deviation of each layer's output in the first forward pass, and, where it drifts with depth,
    or where a hidden or recurrent layer's weights are far from the size that keeps a signal, replays the loop with
    weights that are drawn anew.

    ## Why is it bad?

    If every layer multiplies the signal by 0.1, nothing of the input is left after eight of them, and as little of the
    gradient on its way back; a factor of 3 ends in saturated units or overflow. The network sits still, or diverges,
    until somebody doubts the learning rate.

    ## How it is measured

    By trend, then by experiment. The logarithm of the output size is fitted by a line over the linear and
    convolutional layers in their order of execution, without the last. If the line (R² of `min-fit` or more) means a
    drift of more than `max-drift`, or the standard deviation of a hidden layer's weights is less than 0.1 or more than
    3 times 1 / sqrt(fan-in) (of a recurrent layer's: more than 3 times), the loop is replayed on the same batches with
    the same random numbers: with your weights, and with weights of He's or Glorot's size for the activation that
    follows each layer. It fails when

    - with your weights the loss does not move (between the first and the last third it falls by less than `min-fall`,
      or ends no lower than it begins with the others), and with the others it ends lower by at least `min-gain`; or it
      does move, and ends lower by `min-large-gain` (by 0.3, where only recurrent weights are large: no common start is
      anywhere near that),
    - significantly by a paired Wilcoxon test, and
    - a second look, on the batches in reverse order, says the same.

    Without that gain the drift does no harm, and passes.

    ## When it may be wrong

    - Models with normalization layers keep the signal up by other means: only their recurrent layers are looked at.
      Where layers are added up (residual connections, gates), only a fading by `max-signal-drift` of what differs
      between samples is followed up; there, as everywhere, the experiment decides.
    - Where the weights are of a usual size (`min-usual` to `max-usual`) and most units of a layer are off from the
      first step on, by their biases, the signal fades for that reason: left to dead-units.
    - Loaded weights are not initial weights; weights that start at zero on purpose are left at zero.
    - The experiment also sets biases to zero. A bias that was meant to be far from zero is thereby part of the change.

    ## How to fix

    ```python
    def init(module):
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)


    model.apply(init)
    ```
    """
    layers = scale.layers[:-1]
    why = _no_chain(scale, limits)
    trend = _plain_trend(scale, limits) if not why else None
    odd = _extreme(scale, again)
    if why and not odd:
        raise NotApplicable(why)
    if trend is None and not odd:
        raise Inconclusive("an output is constant or not finite")
    text = _text(layers, trend) if trend is not None else f"the weights of {named(odd[0][0])} are of an odd size"
    yield Measured(trend.drift if trend is not None else odd[0][1], limits.max_drift, text)
    drifts = trend is not None and trend.fit >= limits.min_fit and trend.size > trend.limit
    if not drifts and not odd:
        return
    long = long_looks(again, limits)
    if again is None or not long:
        raise Inconclusive(f"{text}, but no replay with other weights could tell whether that matters")
    if untrue(again.fidelity, limits.max_fidelity):
        raise Inconclusive("the replay of your own loop gave other losses than were observed")
    cells = {each.name for each in scale.recurrent}
    recurrent = bool(odd) and not drifts and all(name in cells for name, _, _ in odd)
    looks = all_better(long, limits, RECURRENT_GAIN if recurrent else 0.0)
    if looks and drifts and trend is not None:
        dead = _dead_layer(activations) if trend.drift < 1 and _usual_weights(layers, limits) else ""
        if dead:
            raise Inconclusive(f"{text}, as units of {named(dead)} are never active; the weights are of a usual size")
        yield _finding(layers, trend, looks)
    elif looks:
        yield _odd(odd, looks)


def _usual_weights(layers: Sequence[LayerScale], limits: Limits) -> bool:
    """No layer's weights are the reason of a fading: the common starts of all libraries lie in this range."""
    sizes = [layer.weight_std * math.sqrt(max(1, layer.fan_in)) for layer in layers]
    return all(limits.min_usual <= size <= limits.max_usual for size in sizes)


def _dead_layer(activations: Activations | None) -> str:
    """A layer that is off from the first step on; '' for none."""
    layers = activations.layers if activations is not None else ()
    return next((layer.name for layer in layers if 2 * min(layer.dead, layer.dead_start) > layer.units > 0), "")


def _no_chain(scale: ForwardScale, limits: Limits) -> str:
    """Why there is no trend from layer to layer to be looked at."""
    if scale.normalized:
        return "the model normalizes its activations"
    if any(layer.loaded for layer in scale.layers):
        return "weights were loaded: they are no initial ones"
    hidden = max(0, len(scale.layers) - 1)
    return f"needs {limits.min_layers} hidden layers, the model has {hidden}" if hidden < limits.min_layers else ""


def _plain_trend(scale: ForwardScale, limits: Limits) -> _Trend | None:
    """Of the outputs; or, where that is even or layers are added up, of what in them differs between samples."""
    layers = scale.layers[:-1]
    outputs = _trend([layer.std for layer in layers])
    if outputs is None:
        return None
    plain = replace(outputs, limit=math.inf if scale.residual else limits.max_drift)
    if outputs.fit >= limits.min_fit and outputs.size > plain.limit:
        return plain
    signal = _trend([layer.signal or 0.0 for layer in layers])
    clear = signal is not None and signal.fit >= limits.min_fit and signal.size > limits.max_signal_drift
    return replace(signal, limit=limits.max_signal_drift) if signal is not None and clear else plain


def _extreme(scale: ForwardScale, again: Reinitialized | None) -> list[tuple[str, float, Location | None]]:
    """(name, std times the root of the fan-in, place) of the layers that the experiment drew anew for their size."""
    chosen = again.extreme if again is not None else ()
    found = [(each.name, each.weight_std * math.sqrt(max(1, each.fan_in)), each.location) for each in scale.layers]
    found += [(each.name, each.gain, each.location) for each in scale.recurrent]
    return [each for each in found if each[0] in chosen]


@dataclass(frozen=True)
class _Trend:
    drift: float  # last over first, on the line
    fit: float  # R²
    limit: float = math.inf  # of the drift
    sizes: tuple[float, ...] = ()

    @property
    def size(self) -> float:
        return max(self.drift, 1 / self.drift)


def _trend(stds: Sequence[float]) -> _Trend | None:
    """Least squares on the logarithms."""
    if not all(math.isfinite(std) and std > 0 for std in stds):
        return None
    logs = [math.log(std) for std in stds]
    n = len(logs)
    centre, mean = (n - 1) / 2, math.fsum(logs) / n
    spread = math.fsum((i - centre) ** 2 for i in range(n))
    slope = math.fsum((i - centre) * (log - mean) for i, log in enumerate(logs)) / spread if spread else 0.0
    total = math.fsum((log - mean) ** 2 for log in logs)
    fit = slope * slope * spread / total if total > 0 else 0.0
    return _Trend(math.exp(max(-700.0, min(700.0, slope * (n - 1)))), min(1.0, fit), sizes=tuple(stds))


def _text(layers: Sequence[LayerScale], trend: _Trend) -> str:
    sizes = f"{number(trend.sizes[0])} to {number(trend.sizes[-1])}"
    return f"the outputs {'shrink' if trend.drift < 1 else 'grow'} from {sizes} over {count(len(layers), 'layer')}"


def _odd(odd: Sequence[tuple[str, float, Location | None]], looks: Sequence[Comparison]) -> Finding:
    name, size, place = max(odd, key=lambda each: abs(math.log(each[1])))
    shown = looks[0]
    kind = "large" if size > 1 else "small"
    return Finding(
        message=(
            f"the initial weights of {named(name)} are {kind}, {number(size)} times 1 / sqrt(fan-in): with weights "
            f"drawn anew the loss after {count(shown.steps, 'step')} is {number(shown.treated_end)} instead of "
            f"{number(shown.control_end)}"
        ),
        where=name,
        location=place,
        measured=size,
        limit=1.0,
        confidence=Confidence.CONFIRMED,
        detail=(*(f"{named(other)}: {number(its)} times 1 / sqrt(fan-in)" for other, its, _ in odd[:8]), *_told(looks)),
    )


def _told(looks: Sequence[Comparison]) -> list[str]:
    return [
        f"{count(look.steps, 'step')}: loss {number(look.control_end)} with your weights, {number(look.treated_end)} "
        f"with weights drawn anew (p = {number(look.p_value)})"
        for look in looks
    ]


def _finding(layers: Sequence[LayerScale], trend: _Trend, looks: Sequence[Comparison]) -> Finding:
    shown = looks[0]
    verb = "fades" if trend.drift < 1 else "blows up"
    detail = [
        "output std per layer: " + ", ".join(number(size) for size in trend.sizes[:14]),
        f"weight std of {named(layers[-1].name)}: {number(layers[-1].weight_std)} with a fan-in of {layers[-1].fan_in}",
    ]
    detail += _told(looks)
    return Finding(
        message=(
            f"the signal {verb} from {number(trend.sizes[0])} to {number(trend.sizes[-1])} over {len(layers)} layers; "
            f"with weights of He's or Glorot's size the loss after {count(shown.steps, 'step')} is "
            f"{number(shown.treated_end)} instead of {number(shown.control_end)}"
        ),
        where=layers[-1].name,
        location=layers[0].location,
        measured=trend.drift,
        limit=trend.limit,
        confidence=Confidence.CONFIRMED,
        detail=tuple(detail),
    )
