"""LOS106: the loss is summed over the batch, so the learning rate depends on the batch size."""

from __future__ import annotations

import math
from collections.abc import Iterator

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
from auditor.evidence import LossSites, LossTerm, LowerRate, Optimizer, Program, Remedy, RemedyKind, Trajectory
from auditor.paired import compare, untrue
from auditor.series import finite, middle

from ..words import count, number, percent

SCALING = ("SGD", "ASGD")  # optimizers whose step is proportional to the gradient


class Limits(Options):
    max_factor: float = Field(
        2.0, ge=1, description="How many times the mean over the batch the loss may be (1: a mean, B: a plain sum)."
    )
    min_fall: float = Field(
        0.1, gt=0, lt=1, description="A loss that falls by this share is making progress: the steps are not too long."
    )
    min_gain: float = Field(
        0.4, gt=0, lt=1, description="Share of the end loss that a lower rate has to remove, for a warning."
    )
    min_cut: float = Field(
        0.9, gt=0, le=1, description="Share of the steps whose gradient a limit on its norm has to cut."
    )
    max_cut_as_mean: float = Field(
        0.1, ge=0, lt=1, description="Share of them that it may cut if the loss were the mean."
    )
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")


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
def sum_reduction(
    sites: LossSites, program: Program, lower: LowerRate | None, trajectory: Trajectory | None, limits: Limits
) -> Judgement:
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
    a loss function with `reduction="sum"`), whose factor times the batch size is above `max-factor`. Where the samples
    of a batch go through the model one by one, the sum of their losses is such a sum. Only for
    optimizers whose step is proportional to the gradient, without a limit on the norm, and for mini-batches.

    With a limit on the norm the sum is told only where it changes what the limit does, by the norms before and after
    clipping: at least `min-cut` of the steps are cut, and of the mean's gradients, which are the same ones divided by
    that factor, at most `max-cut-as-mean` would be. Each step then has the length that the limit allows, and as the
    gradient becomes smaller towards a minimum, the step does not.

    ## When it may be wrong

    - Sums of several summed terms are objectives such as the evidence lower bound of a VAE: passed.
    - Adam and its kin divide by the size of the gradient, so a sum changes nothing: passed.
    - Training on all samples at once has one batch size only: not applicable.
    - A rate that was chosen for the sum is right; this stays a note. It is a warning where the experiment of
      lr-too-high shows that the loop makes no progress with such steps, and does with shorter ones.

    ## How to fix

    ```python
    loss = ((prediction - y) ** 2).mean()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr * batch_size)  # the same steps as with the sum
    ```
    """
    one_by_one = _one_by_one(sites, program)
    if not sites.terms or (sites.batch_size < 2 and not one_by_one):
        raise NotApplicable("no loss over a batch of several samples was seen")
    steps = program.manual_updates or any(_scales(optimizer) for optimizer in program.optimizers)
    if not steps:
        raise NotApplicable("the optimizer's step does not grow with the loss")
    clipped = any(clipping.kind == "norm" for clipping in program.clippings)
    norms = _cut(trajectory) if clipped else []
    if clipped and not norms:
        raise NotApplicable("the norm of the gradient is limited, so the step does not grow with the loss")
    training = [loader for loader in program.loaders if loader.role == "training"]
    batch = one_by_one or sites.batch_size
    if not any((loader.samples or math.inf) > batch for loader in training):
        raise NotApplicable("no mini-batches from a loader were seen: there is one batch size only")
    added = bool(one_by_one) and _one_term_each(sites, one_by_one)
    factors = [abs(sites.terms[0].factor) * batch] if added else [_factor(term, batch) for term in sites.terms]
    largest = max(factors)
    yield Measured(largest, limits.max_factor, f"the loss is {number(largest)} times a mean over the batch")
    if len(factors) != 1 or largest <= limits.max_factor:
        return
    if clipped:
        yield from _always_cut(norms, largest, batch, program, limits)
    else:
        yield _finding(largest, batch, program, lower if lower and _too_long(lower, limits) else None, limits)


def _cut(trajectory: Trajectory | None) -> list[float]:
    """How many times the limit on its norm the gradient of each step is; empty where the limit is not known."""
    if trajectory is None or not trajectory.clipped_norms:
        return []
    limit = max(finite(trajectory.clipped_norms), default=0.0)
    return [norm / limit for norm in finite(trajectory.grad_norms)] if limit > 0 else []


def _always_cut(norms: list[float], factor: float, batch: int, program: Program, limits: Limits) -> Iterator[Finding]:
    """The limit acts because the loss is a sum, and would not on the mean."""
    cut = sum(norm > 1 for norm in norms) / len(norms)
    as_mean = sum(norm > factor for norm in norms) / len(norms)
    if cut < limits.min_cut or as_mean > limits.max_cut_as_mean:
        return
    yield Finding(
        message=(
            f"the loss is summed over the batch of {count(batch, 'sample')}, {number(factor)} times its mean, so that "
            f"the limit on the gradient's norm cuts {percent(cut)} of the steps, to 1/{number(middle(norms))} in the "
            f"median: they all have one length, however small the gradient becomes. Of the mean it would cut "
            f"{percent(as_mean)}"
        ),
        where="loss",
        location=program.loss_location,
        measured=factor,
        limit=limits.max_factor,
        confidence=Confidence.CONFIRMED,
        remedies=(Remedy(kind=RemedyKind.DIVIDE_LOSS, amount=float(f"{factor:.4g}"), site=program.loss_location),),
    )


def _one_by_one(sites: LossSites, program: Program) -> int:
    """Samples of a batch whose samples go through the model one after the other, as those of unequal size do; else 0.

    As many calls as the loader's batch has samples: steps through a sequence are as many by chance only.
    """
    sizes = [loader.batch_size for loader in program.loaders if loader.role == "training"]
    return sites.forwards if sites.forwards > 1 and sites.forwards in sizes else 0


def _one_term_each(sites: LossSites, samples: int) -> bool:
    """The loss is nothing but one term for each sample, all alike."""
    return sites.summands == samples and len({(term.kind, term.factor) for term in sites.terms}) == 1


def _scales(optimizer: Optimizer) -> bool:
    return optimizer.steps > 0 and optimizer.kind in SCALING


def _factor(term: LossTerm, batch: int) -> float:
    """1 for a mean, the batch size for a plain sum."""
    of_batch = term.kind == "sum" and term.rows > 0 and term.rows % batch == 0
    return abs(term.factor) * batch if of_batch and math.isfinite(term.factor) else 1.0


def _too_long(lower: LowerRate, limits: Limits) -> bool:
    """The loop makes no progress with these steps, and does with shorter ones."""
    if untrue(lower.fidelity, limits.max_fidelity) or not lower.looks:
        return False
    look = compare(lower.looks[0])
    stalls = look.control_diverged or look.control_fall < limits.min_fall
    learns = not look.treated_diverged and look.treated_fall >= limits.min_fall
    return stalls and learns and look.gain >= limits.min_gain


def _finding(factor: float, batch: int, program: Program, harm: LowerRate | None, limits: Limits) -> Finding:
    """`harm`: the experiment that shows that the steps are too long."""
    divided = Remedy(kind=RemedyKind.DIVIDE_LOSS, amount=float(f"{factor:.4g}"), site=program.loss_location)
    rates = [rate for optimizer in program.optimizers if _scales(optimizer) for rate in optimizer.learning_rates[:1]]
    finite = [rate for rate in rates if math.isfinite(rate)]
    rate = f": a rate of {number(finite[0])} acts like {number(finite[0] * factor)}" if finite else ""
    return Finding(
        message=(
            f"the loss is summed over the batch of {count(batch, 'sample')}, {number(factor)} times its "
            f"mean, so every step is too{rate}"
        ),
        where="loss",
        location=program.loss_location,
        measured=factor,
        limit=limits.max_factor,
        severity=Severity.WARNING if harm is not None else None,
        confidence=Confidence.CONFIRMED,
        # For such optimizers, the same: what the experiment has tried speaks for both.
        remedies=(divided, Remedy(kind=RemedyKind.RATE, amount=harm.factor, site=harm.location))
        if harm
        else (divided,),
        detail=("with another batch size, and in a smaller last batch, the steps have another size",),
    )
