"""ACT101: rectified units that no sample ever switches on."""

from __future__ import annotations

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
from auditor.evidence import Activations, RemedyKind, UnitActivity

from ..symptoms import NOT_LEARNING
from ..words import count, named, number, percent


class Limits(Options):
    max_share: float = Field(0.5, gt=0, le=1, description="Largest share of a layer that may be dead; above: error.")
    max_growth: float = Field(
        0.25, gt=0, le=1, description="Largest share of a layer that may die during the probe; above: note."
    )
    min_dead: int = Field(4, ge=1, description="Dead units below which a layer is left alone, unless all are dead.")
    min_samples: int = Field(512, ge=1, description="Samples (times positions) that every unit has to have seen.")
    min_batches: int = Field(3, ge=1, description="Batches that they have to come from.")


@rule(
    "ACT101",
    "dead-units",
    severity=Severity.ERROR,
    explains=NOT_LEARNING,
    fix="""Start the layer's bias at zero and its weight with `nn.init.kaiming_normal_(layer.weight)`; lower the
    learning rate if the units die during training; or use `nn.LeakyReLU()` / `nn.GELU()`, which cannot die.""",
    references=(
        "https://arxiv.org/abs/1903.06733",
        "https://arxiv.org/abs/1502.01852",
        "https://arxiv.org/abs/2210.06313",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.LeakyReLU.html",
    ),
    remedies=(
        RemedyKind.REINITIALIZE,
        RemedyKind.LEAKY_UNITS,
        (RemedyKind.RATE, 0.25),
    ),
)
def dead_units(activations: Activations, limits: Limits) -> Judgement:
    """Units of a layer are never active, so they cannot learn.

    ## What it does

    Counts the units behind each rectifier whose output was exactly 0 for every sample of every sampled step.

    ## Why is it bad?

    A rectifier passes no gradient where its output is 0. A unit that no sample switches on gets no gradient at all, so
    its weights stay where they are and it stays off: the capacity is paid for and lost. When most of a layer is off,
    the network is a far smaller one, or a constant.

    ## How it is measured

    Exactly, over at least `min-samples` samples from `min-batches` batches: a unit that fires for more than 3 in n
    samples would have been seen with 95 % probability. More than `max-share` of a layer off throughout the probe is
    an error. So is more than `max-share` off in the last third of it, if units died on the way there. A smaller share
    is reported, as a note, only when units *die* during the probe: more than `max-growth` of the layer.

    ## When it may be wrong

    - Sparsity is normal: 3 % active outputs per sample is what trained transformers show, while nearly every unit fires
      for some sample. Activity per sample is never judged, only units that fire for none.
    - Some units of narrow layers are off from the start by chance. Below `max-share` that is not reported.
    - Experts of a mixture that were hardly routed to have not seen `min-samples` samples and are not judged.
    - Where every unit is on for all samples or off for all, the layer's input does not vary: not judged here (see
      input-independence).
    - GELU, SiLU and leaky units are never exactly 0.
    - A pruned network loaded from a file has dead units on purpose: waive the finding in place.

    ## How to fix

    ```python
    nn.init.kaiming_normal_(self.fc2.weight, nonlinearity="relu")
    nn.init.zeros_(self.fc2.bias)           # a large negative bias switches units off for good
    self.act = nn.LeakyReLU(0.01)           # or a unit that cannot die
    ```
    """
    layers = [layer for layer in activations.layers if layer.units > 0]
    if not layers:
        raise NotApplicable("the model has no rectifier that can switch units off")
    judged = [layer for layer in layers if _enough(layer, limits)]
    if not judged:
        most = max(layers, key=lambda layer: (layer.batches, layer.samples))
        raise Inconclusive(
            f"needs {limits.min_samples} samples from {limits.min_batches} batches, "
            f"saw {most.samples} from {most.batches}"
        )
    worst = max(judged, key=_dead_share)
    yield Measured(
        _dead_share(worst),
        limits.max_share,
        f"at most {percent(_dead_share(worst))} of a layer's units ({named(worst.name)}) were never active in "
        f"{count(worst.samples, 'sample')}",
    )
    # Where all samples are alike to a layer, its units are on or off for all of them: its input is at fault.
    fed = [layer for layer in judged if not layer.constant]
    off = [layer for layer in fed if max(_dead_share(layer), _died_share(layer, limits)) > limits.max_share]
    dying = [layer for layer in fed if layer not in off and _growth(layer, limits) > limits.max_growth]
    off, dying = ([layer for layer in group if _counts(layer, limits)] for group in (off, dying))
    if off:
        yield _off(off, dying, limits)
    elif dying:
        yield _dying(dying, limits)


def _enough(layer: UnitActivity, limits: Limits) -> bool:
    return layer.samples >= limits.min_samples and layer.batches >= limits.min_batches


def _dead_share(layer: UnitActivity) -> float:
    return min(layer.dead, layer.units) / layer.units


def _late(layer: UnitActivity, limits: Limits) -> bool:
    """The last third alone holds enough samples to judge it."""
    return layer.samples // 3 >= limits.min_samples and layer.batches // 3 >= limits.min_batches


def _growth(layer: UnitActivity, limits: Limits) -> float:
    return (layer.dead_end - layer.dead_start) / layer.units if _late(layer, limits) else 0.0


def _died_share(layer: UnitActivity, limits: Limits) -> float:
    """Share off in the last third, if units died on the way there."""
    return min(layer.dead_end, layer.units) / layer.units if _growth(layer, limits) > limits.max_growth else 0.0


def _counts(layer: UnitActivity, limits: Limits) -> bool:
    dead = max(layer.dead, layer.dead_end if _late(layer, limits) else 0)
    return dead >= min(limits.min_dead, layer.units)


def _line(layer: UnitActivity) -> str:
    return (
        f"{layer.name}: of {count(layer.units, 'unit')}, {layer.dead} never active, {layer.dead_start} off in the "
        f"first sampled step, {layer.dead_end} in the last third; {percent(layer.active_share)} of all outputs above 0"
    )


def _detail(layers: Sequence[UnitActivity]) -> tuple[str, ...]:
    lines = [_line(layer) for layer in layers[:8]]
    return (*lines, f"and {len(layers) - 8} more layers") if len(layers) > 8 else tuple(lines)


def _off(layers: Sequence[UnitActivity], others: Sequence[UnitActivity], limits: Limits) -> Finding:
    worst = max(layers, key=lambda layer: (max(_dead_share(layer), _died_share(layer, limits)), layer.units))
    always = _dead_share(worst) > limits.max_share
    share = _dead_share(worst) if always else _died_share(worst, limits)
    seen = worst.samples if always else worst.samples // 3
    when = f"in any of {count(seen, 'sample')}" if always else f"in the last {seen} samples, after dying in training"
    dead = min(worst.dead if always else worst.dead_end, worst.units)
    rest = [layer for layer in layers if layer is not worst]
    return Finding(
        message=(
            f"{dead} of the {worst.units} units of {named(worst.name)} ({percent(share)}) are never active {when}: "
            f"they get no gradient and cannot learn"
        ),
        where=worst.name,
        location=worst.location,
        measured=share,
        limit=limits.max_share,
        confidence=Confidence.CONFIRMED,
        detail=(
            *_detail([worst, *rest, *others]),
            f"with 95 % probability each of them fires for fewer than {number(300 / max(seen, 1))} % of the samples",
        ),
    )


def _dying(layers: Sequence[UnitActivity], limits: Limits) -> Finding:
    worst = max(layers, key=lambda layer: _growth(layer, limits))
    rest = [layer for layer in layers if layer is not worst]
    return Finding(
        message=(
            f"units of {named(worst.name)} die during training: {worst.dead_start} of {worst.units} were off in the "
            f"first sampled step, {worst.dead_end} for all of the last third of the probe"
        ),
        where=worst.name,
        location=worst.location,
        measured=_growth(worst, limits),
        limit=limits.max_growth,
        severity=Severity.NOTE,
        since=1,  # of what was wrong from the start it is no cause
        detail=_detail([worst, *rest]),
    )
