"""OPT105: parameters have gradients and a learning rate, and do not change by one bit."""

from __future__ import annotations

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
from auditor.evidence import LayerChains, Motion, Ownership, ParameterMotion, Remedy, RemedyKind, Schedules

from ..symptoms import NOT_LEARNING
from ..words import count, listing, named, number


class Limits(Options):
    min_updates: int = Field(
        5, ge=2, description="Updates with a gradient and a rate above zero that a parameter has to have had."
    )
    max_still: int = Field(0, ge=0, description="Parameters that may stand still.")
    min_idle: int = Field(20, ge=5, description="Updates with a gradient and a rate of 0 that a group has to have had.")


@rule(
    "OPT105",
    "params-not-updated",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, "update-ratio"),
    fix="""Change the parameter in place, as optimizers do: `p.data.add_(grad, alpha=-lr)`, not
    `p.data.add(grad, alpha=-lr)`; if the step is merely too small for the precision, raise the rate or keep the
    weights in float32.""",
    references=(
        "https://docs.pytorch.org/docs/stable/optim.html#taking-an-optimization-step",
        "https://arxiv.org/abs/2010.06192",
    ),
)
def params_not_updated(
    motion: Motion,
    schedules: Schedules | None,
    chains: LayerChains | None,
    ownership: Ownership | None,
    limits: Limits,
) -> Judgement:
    """The optimizer steps on parameters with a gradient, and they keep every bit of their value.

    ## What it does

    Compares every parameter in an optimizer at the end of the observation with what it was before the first step, bit
    by bit, and looks at sampled steps whether the update moved it at all.

    ## Why is it bad?

    What does not move does not learn. Usual causes: an optimizer of one's own that computes the new value and throws
    it away (`p.add(...)` for `p.add_(...)`, `p = p - lr * g`), a rate so small that the update is below the last
    digit of the weight, weights in half precision, or a step on copies of the parameters.

    ## How it is measured

    By identity. A parameter fails when, over at least `min-updates` updates, its gradient was not zero and its rate was
    above zero, no watched element of it changed in any sampled update, and at the end all of its elements are equal to
    the first ones. It also fails when more than half of the parameters move in their updates and have their first
    value again, bit for bit, before every later update that was sampled: something puts them back. That is a warning,
    because long rounds of federated averaging or of test-time training do the same. Another warning names
    parameters that had gradients in `min-idle` updates at a rate of 0, while nothing schedules the rate and no weights
    were loaded into their module. A third names layers that were built into a network after it had been trained or
    given weights, are frozen as torch has drawn them (evenly up to 1 / sqrt(fan-in)), and pass gradients on to layers
    that are trained: a new head that was frozen with everything else. A fourth names modules that were given
    `requires_grad = True` as if they were tensors, while each of their parameters is frozen: the assignment makes a new
    attribute, and releases nothing.

    ## When it may be wrong

    - Warm-up from a rate of zero, frozen groups with rate zero, rows of an embedding that do not occur, experts that
      are not chosen, zero-initialized gates in the first step: all of these pass, because a whole tensor has to stand
      still under a gradient and a rate.
    - A bias in front of a batch norm, or that of the keys of an attention, has rounding errors for a gradient, because
      what it adds is taken away again (see bias-before-norm). The former passes, the latter under SGD where the weight
      of its layer moves.
    - A parameter that the loop itself sets back after each step moved within the step, and passes.
    - A module whose own class reads a flag of the name `requires_grad` passes.
    - A rate that a schedule has taken close to zero from the start is reported. It is meant to be.

    ## How to fix

    ```python
    class PlainSGD(torch.optim.Optimizer):
        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    p.add_(p.grad, alpha=-group["lr"])  # in place
    ```
    """
    if ownership is not None and ownership.frozen_starts:
        yield _frozen(ownership, limits)
    if ownership is not None and ownership.unreleased:
        yield _unreleased(ownership, limits)
    returning = [each for each in motion.parameters if each.returns and each.moved_within and each.graded_updates]
    if returning and 2 * len(returning) > max(motion.total, len(motion.parameters)):
        yield Measured(float(len(returning)), float(limits.max_still), "each step starts from the same weights")
        yield _returning(returning)
        return
    judged = [each for each in motion.parameters if each.graded_updates >= limits.min_updates]
    if not judged:
        most = max((each.graded_updates for each in motion.parameters), default=0)
        raise Inconclusive(
            f"needs a parameter with {limits.min_updates} updates under a gradient and a rate, saw {most} at most"
        )
    cancelled = {f"{each.layer}.bias" for each in chains.biased} if chains is not None else set()
    moving = {(each.name, each.optimizer) for each in judged if each.moved and each.moved_within}
    still = [
        each
        for each in judged
        if not each.moved and not each.moved_within and each.name not in cancelled and not _of_no_effect(each, moving)
    ]
    total = max(len(judged), motion.graded)
    yield Measured(
        float(len(still)), float(limits.max_still), f"{len(still)} of {count(total, 'parameter')} stood still"
    )
    if len(still) > limits.max_still:
        yield _finding(still, total, limits)
    idle = [each for each in motion.parameters if each.idle_updates >= limits.min_idle and not each.loaded]
    if idle and schedules is None:
        yield _idle(idle, limits)


def _of_no_effect(each: ParameterMotion, moving: set[tuple[str, str]]) -> bool:
    """A bias under plain SGD, which treats it as it does the weight of its layer, and that moves: all that the bias
    gets are rounding errors, as where a softmax or a norm takes away what is added to all of its inputs."""
    layer, dot, kind = each.name.rpartition(".")
    exact = each.dtype in ("float32", "float64", "")
    return kind == "bias" and exact and each.optimizer == "SGD" and (f"{layer}{dot}weight", "SGD") in moving


def _returning(parameters: list[ParameterMotion]) -> Finding:
    first = parameters[0]
    return Finding(
        message=(
            f"every step of {first.optimizer} starts from the same weights again: "
            f"{count(len(parameters), 'parameter')} moved in each step, and had the first values back before the next"
        ),
        where=first.optimizer,
        location=first.optimizer_location or first.location,
        measured=float(len(parameters)),
        limit=0.0,
        severity=Severity.WARNING,  # a round of federated averaging that is longer than the probe does the same
        confidence=Confidence.SUSPECTED,
        fix="Look for what puts the weights back after a step, `load_state_dict()` for example.",
    )


def _unreleased(ownership: Ownership, limits: Limits) -> Finding:
    modules = ownership.unreleased
    first = modules[0]
    return Finding(
        message=(
            f"{listing([named(each.name) for each in modules], 3)} got `requires_grad = True`, which means nothing for "
            f"a module: its {sum(each.parameters for each in modules)} frozen weights stay frozen"
        ),
        where=first.name,
        location=first.location,
        measured=float(len(modules)),
        limit=float(limits.max_still),
        severity=Severity.WARNING,
        confidence=Confidence.CONFIRMED,
        fix="Call the method, which tells every parameter: `model.encoder.requires_grad_(True)`.",
    )


def _frozen(ownership: Ownership, limits: Limits) -> Finding:
    layers = ownership.frozen_starts
    names = listing([named(each.name) for each in layers], 3)
    numbers = sum(each.parameters for each in layers)
    return Finding(
        message=(
            f"{names} {'was' if len(layers) == 1 else 'were'} built into the network after it had been trained or "
            f"given weights, and frozen with the rest: {numbers} random numbers stay as they were drawn, and what is "
            "trained has to adapt to them"
        ),
        where=layers[0].name,
        location=layers[0].location,
        measured=float(len(layers)),
        limit=float(limits.max_still),
        severity=Severity.WARNING,
        confidence=Confidence.CONFIRMED,
        since=ownership.since or None,
        remedies=(Remedy(kind=RemedyKind.LEARN_LAYERS, layers=tuple(each.name for each in layers)),),
        fix="Let the new layer learn: `model.fc.requires_grad_(True)` after the others have been frozen.",
    )


def _idle(idle: list[ParameterMotion], limits: Limits) -> Finding:
    first = idle[0]
    return Finding(
        message=(
            f"{listing([each.name for each in idle], 3)} had gradients in {count(first.idle_updates, 'step')} of "
            f"{first.optimizer}, and a learning rate of 0 in all of them, while others are trained: they keep their "
            "random first values"
        ),
        where=first.name,
        location=first.optimizer_location or first.location,
        measured=float(len(idle)),
        limit=float(limits.max_still),
        severity=Severity.WARNING,
        confidence=Confidence.CONFIRMED,
        fix="Give that group a rate, or freeze it in words: `p.requires_grad_(False)`.",
    )


def _finding(still: list[ParameterMotion], total: int, limits: Limits) -> Finding:
    first = still[0]
    which = "no parameter" if len(still) >= total else listing([each.name for each in still])
    rates = sorted({each.rate for each in still if each.rate > 0})
    low = sorted({each.dtype for each in still} - {"float32", "float64", ""})
    detail = [f"rate {number(rates[-1])}"] if rates else []
    if low:
        detail.append(f"the weights are kept in {', '.join(low)}: small updates round to nothing")
    updates = min(each.graded_updates for each in still)
    if len(still) >= total:
        message = f"{which} changed by a single bit in {count(updates, 'step')} of {first.optimizer}, under gradients"
    else:
        message = (
            f"{which} did not change by a single bit in {count(updates, 'step')} of {first.optimizer}, under gradients "
            f"and a rate of {number(first.rate)}"
        )
    return Finding(
        message=message,
        where=first.name if len(still) < total else first.optimizer,
        location=first.optimizer_location or first.location,
        measured=float(len(still)),
        limit=float(limits.max_still),
        confidence=Confidence.CONFIRMED,
        detail=tuple(detail),
    )
