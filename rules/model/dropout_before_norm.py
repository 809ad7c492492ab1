"""MOD110: dropout changes the variance that a batch norm remembers."""

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
from auditor.evidence import DropoutShift, DropoutShifts

from ..words import count, listing, named, number


class Limits(Options):
    max_ratio: float = Field(
        1.2, gt=1, description="Largest factor between a norm's input variance with dropout and without."
    )
    min_samples: int = Field(8, ge=2, description="Samples that the variance has to come from.")


@rule(
    "MOD110",
    "dropout-before-norm",
    severity=Severity.NOTE,
    fix="Move the dropout behind the last batch norm, in front of the output layer: `self.head(self.drop(x))`.",
    references=(
        "https://arxiv.org/abs/1801.05134",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html",
    ),
)
def dropout_before_norm(shifts: DropoutShifts, limits: Limits) -> Judgement:
    """Dropout feeds a batch norm, whose running variance then does not fit evaluation.

    ## What it does

    Compares the variance of every batch norm's input in a training forward with dropout and in the same forward
    without it.

    ## Why is it bad?

    Dropout keeps the mean of its output, but raises the variance. A batch norm behind it averages the raised variance
    into its running statistics. In evaluation dropout is off and the variance is smaller, and the norm divides by a
    standard deviation that is too large: outputs shrink, and accuracy with it.

    ## How it is measured

    By experiment, on your own model after a few steps: the same batch, the same weights, all norms in training mode,
    averaged over several draws. It fails when the variance differs by more than `max-ratio`. Only dropout differs
    between the two calls, so other effects of the mode do not count.

    ## When it may be wrong

    - A small share (`p` below 0.1) hardly changes the variance, and passes.
    - Layer norm and group norm have no running statistics, and pass. So do batch norms in evaluation mode.
    - Several public recipes do it and work. It costs something and is easily avoided, hence a note.

    ## How to fix

    ```python
    x = F.relu(self.bn1(self.fc1(x)))
    x = F.relu(self.bn2(self.fc2(x)))
    logits = self.head(self.drop(x))     # no batch norm behind it
    ```
    """
    if shifts.dropouts < 1 or shifts.norms < 1:
        raise NotApplicable("no batch norm and dropout are active together in the training forward")
    if shifts.samples < limits.min_samples:
        raise Inconclusive(f"needs {count(limits.min_samples, 'sample')} for a variance, saw {max(0, shifts.samples)}")
    usable = [each for each in shifts.layers if math.isfinite(each.ratio) and each.ratio > 0]
    if not usable:
        yield Measured(1.0, limits.max_ratio, "no batch norm comes after a dropout")
        return
    worst = max(usable, key=_factor)
    yield Measured(
        _factor(worst),
        limits.max_ratio,
        f"the input variance of {named(worst.norm)} changes by {number(_factor(worst))}",
    )
    shifted = [each for each in usable if _factor(each) > limits.max_ratio]
    if not shifted:
        return
    rate = f" (p={number(worst.p)})" if worst.p is not None else ""
    yield Finding(
        message=(
            f"with dropout{rate} the input of {named(worst.norm)} has {number(worst.ratio)} times the variance that it "
            "has in evaluation, where its running statistics no longer fit"
        ),
        where=worst.norm,
        location=worst.dropout_location or worst.location,
        measured=_factor(worst),
        limit=limits.max_ratio,
        confidence=Confidence.CONFIRMED,
        detail=(f"norms behind a dropout: {listing([named(each.norm) for each in shifted], 4)}",),
    )


def _factor(each: DropoutShift) -> float:
    """How far the ratio lies from 1, in either direction."""
    return max(each.ratio, 1 / each.ratio)
