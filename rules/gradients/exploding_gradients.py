"""GRD101: gradients grow out of bounds, over the steps or on their way back through the layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

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
from auditor.evidence import Gradients, Inputs, LayerGradients, Location, Program, RemedyKind, Trajectory, Updates
from auditor.series import Course, Growth, course, diverged, finite, growth, middle, signed, tail

from ..symptoms import NOT_LEARNING
from ..words import count, named, number, percent


class Limits(Options):
    max_growth: float = Field(10.0, gt=1, description="Largest growth of the gradient norm from first to last step.")
    max_depth_ratio: float = Field(
        100.0, gt=1, description="Largest ratio of a layer's gradient norm to that of the layers next to the loss."
    )
    max_trend_ratio: float = Field(
        30.0, gt=1, description="The same where the norms of six layers or more grow steadily towards the input."
    )
    min_fall: float = Field(
        0.25, gt=0, lt=1, description="A loss that falls by this share is not harmed by the depth ratio."
    )
    max_rise: float = Field(1.5, gt=1, description="A loss that ends above this multiple of its start is harmed.")
    max_update_ratio: float = Field(0.1, gt=0, description="Largest update of a weight relative to the weight.")
    max_collapse: float = Field(
        20.0, gt=1, description="Largest ratio of the gradient norm before a burst to that after it."
    )
    max_left: float = Field(
        0.8, gt=0, lt=1, description="A loss that ends below this share of its start has got over a burst."
    )
    min_steps: int = Field(10, ge=8, description="Steps with a finite gradient norm that have to be seen.")


@rule(
    "GRD101",
    "exploding-gradients",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, "nonfinite-loss", "dead-units", "loss-oscillation", "weight-growth"),
    fix="""Start the weights at the right scale (`nn.init.orthogonal_` for recurrent, `nn.init.xavier_normal_` or
    `nn.init.kaiming_normal_` for deep layers), add normalization, and clip between backward() and step():
    `torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)`.""",
    references=(
        "https://arxiv.org/abs/1211.5063",
        "https://proceedings.mlr.press/v9/glorot10a.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html",
    ),
    remedies=(
        (RemedyKind.CLIP, 1.0),
        (RemedyKind.RATE, 0.25),
        RemedyKind.REINITIALIZE,
    ),
)
def exploding_gradients(
    trajectory: Trajectory,
    gradients: Gradients | None,
    updates: Updates | None,
    inputs: Inputs | None,
    program: Program | None,
    limits: Limits,
) -> Judgement:
    """Gradients grow out of bounds, and the loss shows it.

    ## What it does

    Follows the gradient norm that the optimizer really uses, over the observed steps and through the layers, and asks
    whether the loss is harmed by its growth.

    ## Why is it bad?

    A gradient that is a thousand times too long points nowhere: the loss is so crumpled that the direction holds for
    far less than one step. Steps overshoot, weights grow, and the next gradient is longer still. In deep and recurrent
    networks the first layers receive the product of all the factors above them, so they take random walks.

    ## How it is measured

    Loss scale is removed, clipping is applied, skipped steps are left out. Then one of these has to hold *together
    with harm* on the untouched loop:

    - **over the steps:** the Theil-Sen slope of the log norm is above 0 with 99 % confidence and amounts to more than
      `max-growth`, and the loss became non-finite or ended above `max-rise` times its start. If the loss merely did
      not fall while updates exceed `max-update-ratio` of the weights, the finding is a warning.
    - **through the layers:** a layer's norm is more than `max-depth-ratio` times that of the layers next to the loss
      (the median over the observed steps; `max-trend-ratio` is enough where the norms of six layers or more grow
      steadily from the loss to the input), and the loss fell by less than `min-fall`. The first layer is divided by the
      size of the inputs, which its gradient is proportional to.

    - **in a burst:** the loss jumps above `max-rise` times its start as the gradient norm peaks, and from then on the
      norm stays below a `max-collapse`-th of what it was at first (the peak more than the square of `max-growth` above
      it), while the loss ends above `max-left` of its start. One step has thrown the weights to where nothing moves.

    Growth that ends in NaN or infinity, with a rising loss or by more than the square of `max-growth`, is confirmed.
    The others are errors although they are statistics, because two independent symptoms have to agree: a norm outside
    anything a healthy program showed, and a loss that does not fall.

    ## When it may be wrong

    - Gradients of healthy runs often grow tenfold while the loss falls: a falling loss passes.
    - Layers are taken in the order in which the model registers them. A model that registers its output layer first
      shows no depth ratio, and passes.
    - With clipping, the clipped norm is judged: a loop that always clips passes, and a depth ratio is only a warning.
    - Adversarial and reinforcement learning have losses that need not fall: where several optimizers or backward()
      calls are seen, or losses are negative, only growth that ends in NaN counts.
    - A NaN without growth before it is the matter of nonfinite-loss.
    - If a lower learning rate alone cures it, lr-too-high is reported as the cause.

    ## How to fix

    ```python
    nn.init.orthogonal_(self.rnn.weight_hh_l0)      # or xavier / kaiming for feed-forward layers
    ...
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
    optimizer.step()
    ```
    """
    used = trajectory.clipped_norms or trajectory.grad_norms
    skipped = set(trajectory.skipped_steps)
    norms = [norm for step, norm in enumerate(used) if step not in skipped]
    # What comes after the last finite loss is judged by _until_overflow alone.
    losses = course(finite(trajectory.losses))
    where = program.loss_location if program else None
    fatal = _until_overflow(norms, trajectory.losses, limits, where)
    if fatal is not None:
        yield fatal
        return
    known = finite(norms)
    if len(known) < limits.min_steps:
        broken = f", {len(norms) - len(known)} more were not finite (see nonfinite-loss)" if norms != known else ""
        raise Inconclusive(f"needs {count(limits.min_steps, 'finite gradient norm')}, saw {len(known)}{broken}")
    grown = growth(norms)
    factor = grown.factor if grown else 1.0
    yield Measured(
        factor,
        limits.max_growth,
        f"the gradient norm changed {number(factor)}-fold over {count(len(norms), 'step')} "
        f"(median {number(middle(known))}) while the loss went from {number(losses.start)} to {number(losses.end)}",
    )
    optimizers = len(program.optimizers) if program else 1
    if optimizers > 1 or len(trajectory.series) > 1 or signed(trajectory.losses):
        return  # losses that need not fall prove no harm
    over_steps = list(_over_steps(grown, len(norms), losses, updates, where, limits))
    if not over_steps and not trajectory.clipped_norms:
        over_steps = list(_burst(norms, trajectory.losses, losses, where, limits))
    yield from over_steps
    if not over_steps and gradients is not None:
        size = math.hypot(inputs.mean, inputs.std) if inputs else 1.0
        yield from _through_layers(gradients, size, losses, bool(trajectory.clipped_norms), limits)


def _until_overflow(
    norms: Sequence[float], losses: Sequence[float], limits: Limits, where: Location | None
) -> Finding | None:
    """Growth up to the first step that is not finite, however few steps that took."""
    first = next((step for step, norm in enumerate(norms) if not math.isfinite(norm)), len(norms))
    if first < 2 or (first == len(norms) and not diverged(losses)):
        return None
    start, last = middle(norms[: max(1, first // 4)]), norms[first - 1]
    # The last quarter has to be long as well: one long gradient is no growth.
    late = middle(norms[first - max(1, first // 4) : first])
    factor = min(last, late) / start if start > 0 else 0.0
    values = finite(losses)
    risen = len(values) > 1 and values[-1] > limits.max_rise * abs(values[0])
    # Healthy gradients grow tenfold as well, and an operation may turn into NaN for a reason of its own.
    if not factor > (limits.max_growth if risen else limits.max_growth**2):
        return None
    return Finding(
        message=(
            f"the gradient norm grew from {number(start)} to {number(last)} in {count(first, 'step')}, then the "
            f"{'gradient' if first < len(norms) else 'loss'} left the finite numbers"
        ),
        location=where,
        measured=factor,
        limit=limits.max_growth,
        confidence=Confidence.CONFIRMED,
        detail=("norms: " + ", ".join(number(norm) for norm in norms[max(0, first - 6) : first + 1]),),
    )


def _over_steps(
    grown: Growth | None,
    steps: int,
    losses: Course,
    updates: Updates | None,
    where: Location | None,
    limits: Limits,
) -> Iterator[Finding]:
    if grown is None or grown.low <= 1 or grown.factor <= limits.max_growth:
        return
    ratio = _update_ratio(updates)
    harmed = losses.rise > limits.max_rise
    if not harmed and not (ratio > limits.max_update_ratio and losses.fall <= 0):
        return
    detail = [f"99 % interval of the growth: {number(grown.low)} to {number(grown.high)} times"]
    if math.isfinite(ratio):
        detail.append(f"a step moves the weights by {percent(ratio)} of their size (median); about 0.1 % is usual")
    yield Finding(
        message=(
            f"the gradient norm grew {number(grown.factor)}-fold over {count(steps, 'step')} and the loss went from "
            f"{number(losses.start)} to {number(losses.end)}"
        ),
        location=where,
        measured=grown.factor,
        limit=limits.max_growth,
        severity=None if harmed else Severity.WARNING,
        detail=tuple(detail),
    )


def _burst(
    norms: Sequence[float], values: Sequence[float], losses: Course, where: Location | None, limits: Limits
) -> Iterator[Finding]:
    """The gradient shoots up early on, and what is left after it is next to none."""
    known = [norm if math.isfinite(norm) else 0.0 for norm in norms]
    if not known or not values or not 0 < values[0] < math.inf:
        return
    peak = max(range(len(known)), key=known.__getitem__)
    after = middle(known[peak + 2 :])
    if not 0 < peak < len(known) // 2 or not after > 0:
        return
    jump = max(finite(values[peak : peak + 3]), default=0.0) / values[0]
    before = middle(known[:peak])
    gone = before > limits.max_collapse * after and known[peak] > max(before, limits.max_growth**2 * after)
    if not gone or jump <= limits.max_rise or losses.end <= limits.max_left * values[0]:
        return
    yield Finding(
        message=(
            f"the gradient norm shot up to {number(known[peak])} at step {peak}, the loss to {number(jump)} times its "
            f"start, and since then the norm has been {number(after)} where it began with {number(before)}: that step "
            "has thrown the weights to where nothing is learned"
        ),
        location=where,
        measured=known[peak] / after,
        limit=limits.max_growth**2,
        detail=(f"the loss began with {number(values[0])} and ends at {number(losses.end)}",),
    )


def _update_ratio(updates: Updates | None) -> float:
    """Median over the weights of their median late update ratio, NaN when unknown."""
    if updates is None:
        return math.nan
    return middle([middle(tail(layer.ratios)) for layer in updates.layers if layer.ratios])


@dataclass(frozen=True)
class Profile:
    """The layer with the largest gradient relative to the layers next to the loss."""

    layer: LayerGradients
    ratio: float
    norm: float
    last: float
    last_name: str
    steady: bool  # the norms grow from layer to layer on the way back, with few exceptions


def _profile(gradients: Gradients, input_size: float) -> Profile | None:
    levels = [(layer, middle(layer.norms)) for layer in gradients.layers]
    levels = [(layer, level) for layer, level in levels if math.isfinite(level) and level > 0]
    if len(levels) < 2:
        return None
    ends = levels[-max(1, len(levels) // 4) :]
    last = middle([level for _, level in ends])
    sizes = [level / max(1.0, input_size) if place == 0 else level for place, (_, level) in enumerate(levels)]
    worst = max(range(len(levels) - len(ends)), key=sizes.__getitem__)
    downhill = sum(here > after for here, after in pairwise(sizes))
    steady = len(sizes) >= 6 and downhill >= 0.85 * (len(sizes) - 1)
    return Profile(levels[worst][0], sizes[worst] / last, levels[worst][1], last, ends[-1][0].name, steady)


def _through_layers(
    gradients: Gradients, input_size: float, losses: Course, clipped: bool, limits: Limits
) -> Iterator[Finding]:
    profile = _profile(gradients, input_size if math.isfinite(input_size) else 1.0)
    if profile is None or len(gradients.steps) < 3 or losses.fall >= limits.min_fall:
        return
    limit = min(limits.max_depth_ratio, limits.max_trend_ratio) if profile.steady else limits.max_depth_ratio
    if profile.ratio <= limit:
        return
    levels = [(layer.name, middle(layer.norms)) for layer in gradients.layers]
    stride = -(-len(levels) // 8)
    yield Finding(
        message=(
            f"the gradient of {named(profile.layer.name)} is {number(profile.ratio)} times that of "
            f"{named(profile.last_name)} next to the loss, and the loss went from {number(losses.start)} to "
            f"{number(losses.end)} in {count(losses.steps, 'step')}"
        ),
        where=profile.layer.name,
        location=profile.layer.location,
        measured=profile.ratio,
        limit=limit,
        severity=Severity.WARNING if clipped else None,
        detail=(
            f"median norm {number(profile.norm)} there, {number(profile.last)} next to the loss",
            "first to last layer: " + ", ".join(f"{name} {number(level)}" for name, level in levels[::stride]),
        ),
    )
