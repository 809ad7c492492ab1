"""EVL104: a metric compares every prediction with every label."""

from __future__ import annotations

import math

from pydantic import Field

from auditor.declare import (
    Confidence,
    Finding,
    Judgement,
    Measured,
    Options,
    Severity,
    rule,
)
from auditor.evidence import BroadcastComparison, Comparisons, Remedy, RemedyKind, SingleArgmax

from ..words import count, number


class Limits(Options):
    max_broadcasts: int = Field(
        0, ge=0, description="Most places that may compare a vector of predictions with a column of labels."
    )


@rule(
    "EVL104",
    "broadcast-in-metric",
    severity=Severity.ERROR,
    fix="""Give predictions and labels one shape before they are compared: `(pred.view(-1) == y.view(-1)).sum()`; for a
    single logit the prediction is `logit > 0`, not its argmax.""",
    remedies=(RemedyKind.PAIRED_METRIC,),
    references=(
        "https://docs.pytorch.org/docs/stable/notes/broadcasting.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.eq.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.argmax.html",
    ),
)
def broadcast_in_metric(comparisons: Comparisons, limits: Limits) -> Judgement:
    """A metric compares every prediction with every label, or takes the argmax of a single output.

    ## What it does

    Looks at the shapes that the script compares or subtracts outside of its model, and at what it takes the argmax of.

    ## Why is it bad?

    Predictions of shape (B,) and labels of shape (B, 1) broadcast to a matrix of B x B comparisons. Nothing complains:
    the sum of it is an accuracy that can be above 1 and has nothing to do with the model. The residuals of an R2 or a
    mean error by hand, and the overlap of masks, become B x B in the same way. The argmax over the only
    output of a model is 0 for every sample, whatever the model says, so the accuracy is the share of class 0.
    Models are chosen by these numbers.

    ## How it is measured

    By identity. A comparison fails when one side has the shape (B,), the other (B, 1), the result is (B, B), and at
    least one side is known by its values: labels are those of the latest batch or loss call, predictions are what
    the model's latest output says. A difference without gradients fails when it has such shapes, both sides are
    known, and the column came as one from the model or the loader; what was only brought to other units (`pred *
    spread + mean`) is known by its order. So does a product, `&` or `|`, and any of these where there are more
    axes, (B, 1, H, W) with (B, H, W). Beside a column that the model returned, and whose loss is taken with one
    number a sample, a vector of as many numbers is taken for the labels, wherever it is from. An argmax fails when
    it is taken over the only column of the model's latest output and its result is then compared with another
    tensor. The message gives what the metric reports, and what a comparison in pairs gives. More than `max-
    broadcasts` places fail.

    ## When it may be wrong

    - Masks that tell which samples belong together (`labels.unsqueeze(0) == labels.unsqueeze(1)`, a column of labels
      against the same labels) compare labels with labels and pass, as do attention masks inside a model.
    - Multi-label predictions have the labels' shape and pass; so does a comparison with all classes, (B, C) with
      (B, 1).
    - Predictions that the script works out in its own way are recognised only by the labels on the other side, and
      not at all in differences: kernels and distances between all pairs are subtracted on purpose.
    - Metrics computed in numpy or by a library are not seen.

    ## How to fix

    ```python
    pred = (logit.squeeze(1) > 0).long()
    correct += (pred == y.view(-1)).sum().item()
    assert pred.shape == y.view(-1).shape
    ```
    """
    found = len(comparisons.broadcast) + len(comparisons.single)
    places = "place" if found == 1 else "places"
    yield Measured(
        found,
        limits.max_broadcasts,
        f"{count(comparisons.compared, 'comparison')} of tensors seen, "
        + (f"{found} {places} wrong" if found else "none of a vector with a column"),
    )
    if found <= limits.max_broadcasts:
        return
    for site in comparisons.broadcast:
        yield _broadcast(site, found, limits)
    for single in comparisons.single:
        yield _single(single, found, limits)


def _broadcast(site: BroadcastComparison, found: int, limits: Limits) -> Finding:
    rows = max(site.left[0], site.right[0]) if site.left and site.right else 1
    told = ""
    if site.reported is not None and site.paired is not None and math.isfinite(site.reported + site.paired):
        hits = "errors" if site.function == "!=" else "hits"
        what = "the mean square is" if site.function == "-" else f"the {hits} over the samples are"
        told = f"; {what} {number(site.reported)}, in pairs {number(site.paired)}"
    joined = (f"joined by {site.function}", "pairs")
    done, made = {
        "-": ("subtracted", "differences"),
        "==": ("compared", "comparisons"),
        "!=": ("compared", "comparisons"),
    }.get(site.function, joined)
    known = {
        "labels": "one of them holds the labels of the batch",
        "predictions": "one of them holds what the model predicts",
        "both": "they hold the labels of the batch and what the model predicts",
    }[site.known]
    return Finding(
        message=(
            f"tensors of shape {_shape(site.left)} and {_shape(site.right)} are {done}, which makes {rows} x {rows} "
            f"{made} instead of {rows}{told}"
        ),
        where="evaluation" if site.evaluation else "training",
        location=site.location,
        measured=found,
        limit=limits.max_broadcasts,
        confidence=Confidence.CONFIRMED,
        detail=(known, f"seen {count(site.calls, 'time')}"),
        remedies=(Remedy(kind=RemedyKind.PAIRED_METRIC, site=site.location),),
    )


def _single(single: SingleArgmax, found: int, limits: Limits) -> Finding:
    call = "argmax" if single.function == "argmax" else "the indices of max"
    detail = [f"seen {count(single.calls, 'time')}"]
    if single.compared_location is not None:
        detail.append(f"its result is compared in line {single.compared_location.line}")
    return Finding(
        message=(
            f"{call} over the only column of an output of shape {_shape(single.shape)} is 0 for every sample, so the "
            "metric does not depend on the model"
        ),
        location=single.location,
        measured=found,
        limit=limits.max_broadcasts,
        confidence=Confidence.CONFIRMED,
        detail=tuple(detail),
        fix="A model with one logit predicts class 1 where it is positive: `pred = (logit.squeeze(1) > 0).long()`.",
    )


def _shape(sizes: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"
