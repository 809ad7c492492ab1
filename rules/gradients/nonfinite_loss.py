"""GRD103: the loss or a gradient becomes NaN or infinite."""

from __future__ import annotations

import re

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
from auditor.evidence import EVERY_OPERATION, Nonfinite, Remedy, RemedyKind, Trajectory

from ..symptoms import NOT_LEARNING
from ..words import count, listing, number

# What makes the operation's backward or forward pass non-finite, and what to write instead.
REMEDIES = {
    "sqrt": "the slope of sqrt at 0 is infinite: `torch.sqrt(x + 1e-8)`",
    "norm": "the slope of a norm at 0 is not a number: `(x.square().sum(-1) + 1e-8).sqrt()`",
    "cdist": "the slope of a distance at 0 is not a number: add a small number to it",
    "log": "log of 0 is infinite: `torch.log(x.clamp_min(1e-8))`, or a loss that takes logits",
    "div": "a divisor is 0: `x / (y + 1e-8)`",
    "std": "the standard deviation of equal numbers has no slope: `x.std(...) + 1e-5` inside a clamp",
    "exp": "exp overflows above 88 in float32: `torch.exp(x.clamp(max=20))`",
    "pow": "a power with a negative or zero base has no slope there: `x.clamp_min(1e-8).pow(p)`",
    "acos": "acos has no slope at -1 and 1: `torch.acos(x.clamp(-1 + 1e-6, 1 - 1e-6))`",
    "softmax": "a row of -inf has no softmax: leave at least one position unmasked",
}


class Limits(Options):
    min_steps: int = Field(1, ge=1, description="Steps that have to be checked before a pass is given.")


@rule(
    "GRD103",
    "nonfinite-loss",
    severity=Severity.ERROR,
    explains=NOT_LEARNING,
    fix="""Keep the operation away from the point where it has no value or no slope, e.g.
    `torch.log(x.clamp_min(1e-8))`; `torch.autograd.set_detect_anomaly(True)` shows the line.""",
    references=(
        "https://docs.pytorch.org/docs/stable/autograd.html#anomaly-detection",
        "https://docs.pytorch.org/docs/stable/notes/amp_examples.html",
    ),
    remedies=(
        RemedyKind.GUARD,
        (RemedyKind.CLIP, 1.0),
        (RemedyKind.RATE, 0.25),
    ),
)
def nonfinite_loss(nonfinite: Nonfinite, trajectory: Trajectory | None, limits: Limits) -> Judgement:
    """The loss or a gradient becomes NaN or infinite.

    ## What it does

    Checks every loss and every gradient of the observed steps, and replays the first bad step with a check after each
    operation, to name the one that took finite numbers and returned others.

    ## Why is it bad?

    One NaN in one gradient makes every weight it touches NaN at the next step. From there on nothing is learned, while
    the script goes on and may even save the result.

    ## How it is measured

    Exactly. The first step with a non-finite loss, gradient or weight fails the rule. The replay starts from the
    weights and random numbers before that step, so the named operation is the one that really did it.

    ## When it may be wrong

    - Infinities that a `GradScaler` meets while it looks for its scale are no failure: the step is skipped, and skipped
      steps are not counted.
    - Additive attention masks hold -inf on purpose. Only losses, gradients and weights are checked.

    ## How to fix

    Keep the operation away from its bad point; if the batch itself holds NaN, clean the data.

    ```python
    distance = torch.sqrt(((a - b) ** 2).sum(dim=1) + 1e-8)   # slope of sqrt at 0 is infinite
    loss = -(target * torch.log(p.clamp_min(1e-8))).mean()    # or cross_entropy on logits
    ```
    """
    skipped = max(nonfinite.scaler_skipped, len(trajectory.skipped_steps) if trajectory else 0)
    note = f"; a GradScaler skipped {count(skipped, 'step')}, as it should" if skipped else ""
    step = nonfinite.first_step
    if step is not None and trajectory is not None and step in trajectory.skipped_steps:
        step = None  # the scaler dealt with it
    if step is None:
        if nonfinite.steps_checked < limits.min_steps:
            raise Inconclusive("no step was checked")
        yield Measured(
            0.0, 0.0, f"every loss and gradient of {count(nonfinite.steps_checked, 'step')} was finite{note}"
        )
        return
    yield Measured(1.0, 0.0, f"step {step} is not finite{note}")
    yield Finding(
        message=f"{_what(nonfinite)} NaN or infinite at step {step}{_cause(nonfinite)}",
        where=nonfinite.layer,
        location=nonfinite.location or nonfinite.loss_location,
        measured=1.0,
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        detail=_detail(nonfinite),
        fix=_fix(nonfinite),
        remedies=_remedies(nonfinite),
        since=step,
    )


# They overflow with what they are given: large gradients of an operation behind them.
WITHOUT_BAD_POINTS = frozenset({"addmm", "mm", "bmm", "linear", "matmul", "convolution", "mul", "add", "sub", "sum"})


def _remedies(nonfinite: Nonfinite) -> tuple[Remedy, ...] | None:
    """The named operation first; None stands for the rule's own."""
    if nonfinite.input_nonfinite:
        return (Remedy(kind=RemedyKind.CLEAN_INPUTS),)
    if not nonfinite.operation or nonfinite.location is None:
        return None
    name = re.sub(r"Backward\d*$", "", nonfinite.operation).lower()
    subject = EVERY_OPERATION if name.strip("_") in WITHOUT_BAD_POINTS else name
    guard = Remedy(kind=RemedyKind.GUARD, subject=subject, site=nonfinite.location)
    return (guard, Remedy(kind=RemedyKind.CLIP, amount=1.0), Remedy(kind=RemedyKind.RATE, amount=0.25))


def _what(nonfinite: Nonfinite) -> str:
    subject = {"gradient": "a gradient is", "parameter": "a weight is", "loss": "the loss is"}
    return subject.get(nonfinite.what, "the loss or a gradient is")


def _cause(nonfinite: Nonfinite) -> str:
    if nonfinite.input_nonfinite:
        return ": the batch itself already holds NaN or infinity"
    if nonfinite.parameter_nonfinite:
        return ": a weight was not finite before the step"
    if nonfinite.operation:
        layer = f" in {nonfinite.layer}" if nonfinite.layer else ""
        way = f"the {nonfinite.direction} pass of " if nonfinite.direction else ""
        return f": {way}{nonfinite.operation}{layer} turned finite numbers into it"
    return f", in {nonfinite.layer}" if nonfinite.layer else ""


def _detail(nonfinite: Nonfinite) -> tuple[str, ...]:
    lines = []
    if nonfinite.losses_before:
        lines.append(f"losses before it: {listing([number(loss) for loss in nonfinite.losses_before[-5:]])}")
    if not nonfinite.traced:
        lines.append("the step was not replayed operation by operation, so the origin may lie further up")
    if nonfinite.loss_location is not None:
        lines.append(f"backward() is called at {nonfinite.loss_location.file}:{nonfinite.loss_location.line}")
    return tuple(lines)


def _fix(nonfinite: Nonfinite) -> str | None:
    """A remedy for the named operation; None keeps the rule's own text."""
    if nonfinite.input_nonfinite:
        return "Clean the data before training: `assert torch.isfinite(x).all()` in the dataset finds the sample."
    if nonfinite.parameter_nonfinite:
        return "A weight is not finite before the step: `assert all(p.isfinite().all() for p in model.parameters())`."
    operation = nonfinite.operation.lower()
    # The longest name first: 'logsoftmax' is about softmax, not about log.
    for name in sorted(REMEDIES, key=len, reverse=True):
        if name in operation:
            return f"In {nonfinite.operation}, {REMEDIES[name]}."
    return None
