"""LOS106: the loss is summed over the batch, so the learning rate depends on the batch size."""

from __future__ import annotations

import math

from pydantic import Field

from auditor.declare import (
    Confidence,
    Finding,
    Judgement,
    Measured,
    NotApplicable,
    Options,
    Severity,
    rule,
)
from auditor.evidence import LossSites, LossTerm, Optimizer, Program

from ..words import count, number

SCALING = ("SGD", "ASGD")  # optimizers whose step is proportional to the gradient


class Limits(Options):
    max_factor: float = Field(
        2.0, ge=1, description="How many times the mean over the batch the loss may be (1: a mean, B: a plain sum)."
    )


@rule(
    "LOS106",
    "sum-reduction",
    severity=Severity.NOTE,
    explains=("lr-too-high", "exploding-gradients"),
    fix="""Average over the batch, `F.mse_loss(prediction, y, reduction="mean")`, and set the learning rate anew: the
    same step needs a rate that is larger by the batch size.""",
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.MSELoss.html",
        "https://arxiv.org/abs/1706.02677",
    ),
)
def sum_reduction(sites: LossSites, program: Program, limits: Limits) -> Judgement:
    """The loss is a sum over the samples of the batch, not their mean.

    ## What it does

    Reads from the graph how the number that `backward()` is called on was put together: summed over the batch,
    averaged, or multiplied by a constant.

    ## Why is it bad?

    It need not be. But with plain or momentum SGD the step is proportional to the gradient, and that to the number
    of samples in the sum: the true learning rate is `lr` times the batch size. Recipes for averaged losses are then
    too fast by that factor, another batch size needs another rate, and a smaller last batch takes a smaller step.

    ## How it is measured

    By identity, in the graph of the loss: behind additions and constant factors lies a single sum over the batch (or
    a loss function with `reduction="sum"`), whose factor times the batch size is above `max-factor`. Only for
    optimizers whose step is proportional to the gradient, without a limit on the norm, and for mini-batches.

    ## When it may be wrong

    - Sums of several summed terms are objectives such as the evidence lower bound of a VAE: passed.
    - Adam and its kin divide by the size of the gradient, so a sum changes nothing: passed.
    - Training on all samples at once has one batch size only: not applicable.
    - A rate that was chosen for the sum is right; this stays a note.

    ## How to fix

    ```python
    loss = ((prediction - y) ** 2).mean()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr * batch_size)  # the same steps as with the sum
    ```
    """
    if not sites.terms or sites.batch_size < 2:
        raise NotApplicable("no loss over a batch of several samples was seen")
    steps = program.manual_updates or any(_scales(optimizer) for optimizer in program.optimizers)
    if not steps:
        raise NotApplicable("the optimizer's step does not grow with the loss")
    if any(clipping.kind == "norm" for clipping in program.clippings):
        raise NotApplicable("the norm of the gradient is limited, so the step does not grow with the loss")
    training = [loader for loader in program.loaders if loader.role == "training"]
    if not any((loader.samples or math.inf) > sites.batch_size for loader in training):
        raise NotApplicable("no mini-batches from a loader were seen: there is one batch size only")
    factors = [_factor(term, sites.batch_size) for term in sites.terms]
    largest = max(factors)
    yield Measured(largest, limits.max_factor, f"the loss is {number(largest)} times a mean over the batch")
    if len(factors) == 1 and largest > limits.max_factor:
        yield _finding(largest, sites, program, limits)


def _scales(optimizer: Optimizer) -> bool:
    return optimizer.steps > 0 and optimizer.kind in SCALING


def _factor(term: LossTerm, batch: int) -> float:
    """1 for a mean, the batch size for a plain sum."""
    of_batch = term.kind == "sum" and term.rows > 0 and term.rows % batch == 0
    return abs(term.factor) * batch if of_batch and math.isfinite(term.factor) else 1.0


def _finding(factor: float, sites: LossSites, program: Program, limits: Limits) -> Finding:
    rates = [rate for optimizer in program.optimizers if _scales(optimizer) for rate in optimizer.learning_rates[:1]]
    finite = [rate for rate in rates if math.isfinite(rate)]
    rate = f": a rate of {number(finite[0])} acts like {number(finite[0] * factor)}" if finite else ""
    return Finding(
        message=(
            f"the loss is summed over the batch of {count(sites.batch_size, 'sample')}, {number(factor)} times its "
            f"mean, so every step is too{rate}"
        ),
        where="loss",
        location=program.loss_location,
        measured=factor,
        limit=limits.max_factor,
        confidence=Confidence.CONFIRMED,
        detail=("with another batch size, and in a smaller last batch, the steps have another size",),
    )
