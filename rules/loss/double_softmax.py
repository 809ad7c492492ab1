"""LOS101: cross entropy is given probabilities instead of logits."""

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
from auditor.evidence import Location, LossInput, LossInputs, LossSites, Remedy, RemedyKind, TwiceSquashed

from ..symptoms import NOT_LEARNING
from ..words import count, number

LOOSE_ROW_SUM = 0.05  # half precision rounds the sum of a row


class Limits(Options):
    max_row_sum_error: float = Field(
        1e-4, gt=0, lt=0.1, description="Rows whose sums differ from 1 by no more than this are probabilities."
    )
    min_calls: int = Field(2, ge=1, description="Calls that have to be seen where the producer is not known.")
    min_rows: int = Field(8, ge=1, description="Rows that have to be seen where the producer is not known.")


@rule(
    "LOS101",
    "double-softmax",
    severity=Severity.ERROR,
    explains=NOT_LEARNING,
    fix="""Give the loss raw logits: drop the softmax, `return self.head(x)`, and apply
    `logits.softmax(-1)` only where probabilities are shown.""",
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html",
    ),
    remedies=(RemedyKind.LEAVE_OUT,),
)
def double_softmax(inputs: LossInputs | None, sites: LossSites | None, limits: Limits) -> Judgement:
    """Cross entropy receives probabilities, so softmax is applied twice.

    ## What it does

    Looks at what every cross-entropy call really received: logits, log-probabilities or probabilities. And, where the
    cross entropy is written by hand, at what its log-softmax was taken of.

    ## Why is it bad?

    `cross_entropy` applies log-softmax itself. Probabilities lie in [0, 1], so the second softmax can never become
    sure: the loss cannot fall below ln(1 + (C - 1)/e), which is 0.313 for 2 classes, 1.461 for 10 and 5.91 for 1000,
    and the gradients are squeezed by two softmaxes. Training is slow or frozen near ln C, and nothing fails.

    ## How it is measured

    By identity, over every row of every observed call: no value is negative and each row sums to 1 within
    `max-row-sum-error`. Or, because half precision rounds sums, the values were made by a softmax operation and lie
    in [0, 1]. For a formula by hand, or a `log_softmax` before `nll_loss`: on the way from the loss back to the model,
    a log-softmax, softmax or log-sum-exp is met whose input a softmax made (views, limits and a temperature above 1
    looked through). The log-probability of a `Categorical(logits=...)` is such a formula, also where the steps of an
    episode are stacked.

    ## When it may be wrong

    - Log-probabilities (a `log_softmax` before `cross_entropy`) are harmless, log-softmax of them is themselves:
      pass.
    - A single class sums to 1 by itself: not judged.
    - One call with a few rows proves nothing unless the operation that made them is known: inconclusive.
    - Probabilities that are sharpened first, and attention weights inside the model, are not looked at.
    - `nll_loss`, which wants log-probabilities, is not this rule's matter.

    ## How to fix

    ```python
    def forward(self, x):
        return self.head(self.body(x))  # no softmax here

    loss = F.cross_entropy(model(x), y)
    probabilities = model(x).softmax(dim=-1)  # only to show or to threshold
    ```

    If the model has to return probabilities, take their logarithm:
    `F.nll_loss(probabilities.clamp_min(1e-9).log(), y)`.
    """
    given = inputs.calls if inputs is not None else ()
    twice = [each for each in (sites.twice if sites is not None else ()) if _softmax_twice(each, limits)]
    calls = [call for call in given if call.classes > 1 and call.rows > 0 and "nll" not in call.function.lower()]
    if not calls and not twice:
        raise NotApplicable("no cross-entropy call with at least two classes was seen")
    faulty = [call for call in calls if _made_by_softmax(call) or _probabilities(call, limits)]
    harmless = " (log-probabilities, which are harmless)" if any(call.log_probabilities for call in calls) else ""
    yield Measured(
        float(len(faulty) + len(twice)),
        0.0,
        f"{count(len(calls), 'cross-entropy call site')} seen, {len(faulty)} given probabilities{harmless}",
    )
    places: set[Location | None] = set()
    for call in faulty:
        place = call.producer_location or call.location
        if place is not None and place in places:
            continue  # one softmax that several loss calls receive is one fault
        places.add(place)
        if _made_by_softmax(call) or (call.calls >= limits.min_calls and call.rows >= limits.min_rows):
            yield _finding(call)
        elif len(faulty) == 1:
            raise Inconclusive(
                f"{count(call.rows, 'row')} in {count(call.calls, 'call')} of {call.function} sum to 1; probe more "
                "steps to tell that from chance"
            )
    for each in twice:
        if (each.location is None and places) or each.location in places:
            continue
        places.add(each.location)
        yield _by_hand(each)


def _softmax_twice(each: TwiceSquashed, limits: Limits) -> bool:
    outer = each.outer in ("LogSoftmax", "Softmax", "_SafeSoftmax", "Logsumexp")
    return each.inner.endswith("Softmax") and outer and each.calls >= limits.min_calls


def _by_hand(each: TwiceSquashed) -> Finding:
    second = {"LogSoftmax": "a log-softmax", "Logsumexp": "log-sum-exp"}.get(each.outer, "a softmax")
    return Finding(
        message=(
            f"the loss takes {second} of what is the output of a softmax already: of probabilities between 0 and 1, "
            "the second softmax can never become sure"
        ),
        where=each.layer or "loss",
        location=each.location or each.loss_location,
        measured=1.0,
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        detail=(f"in {count(each.calls, 'step')} looked at, by the graph of the loss",),
        remedies=(Remedy(kind=RemedyKind.LEAVE_OUT, subject="softmax", site=each.location),),
    )


def _made_by_softmax(call: LossInput) -> bool:
    bounded = call.min_value >= 0 and call.max_value <= 1.001
    return bounded and not call.log_probabilities and call.producer.removeprefix("_Safe").startswith("Softmax")


def _probabilities(call: LossInput, limits: Limits) -> bool:
    return not call.log_probabilities and call.min_value >= 0 and abs(call.row_sum_error) <= limits.max_row_sum_error


def _finding(call: LossInput) -> Finding:
    floor = math.log1p((call.classes - 1) / math.e)
    error = abs(call.row_sum_error)
    rows_sum = error <= LOOSE_ROW_SUM
    received = f"probabilities (rows sum to 1 within {number(error)})" if rows_sum else "the output of a softmax"
    values = f"values from {number(call.min_value)} to {number(call.max_value)}"
    detail = [f"{count(call.rows, 'row')} in {count(call.calls, 'call')}: {values}"]
    if call.producer:
        layer = f" in {call.producer_layer}" if call.producer_layer else ""
        detail.append(f"made by {call.producer.removesuffix('Backward0')}{layer}{_at(call)}")
    if not rows_sum:
        detail.append("the rows do not sum to 1: the softmax also runs over the wrong dimension")
    return Finding(
        message=(
            f"{call.function} receives {received} and applies softmax again: with {call.classes} classes the loss "
            f"cannot fall below {number(floor)}"
        ),
        where=call.producer_layer or call.function,
        location=call.producer_location or call.location,
        measured=1.0,
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        detail=tuple(detail),
        remedies=(Remedy(kind=RemedyKind.LEAVE_OUT, subject="softmax", site=call.producer_location),),
    )


def _at(call: LossInput) -> str:
    place = call.producer_location
    if place is None or call.location is None:
        return ""
    return f", line {place.line}; the loss is at line {call.location.line}"
