"""LOS103: the loss rests on a softmax over a single unit, which is constant."""

from __future__ import annotations

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
from auditor.evidence import Location, LossSite, LossSites, Remedy, RemedyKind

from ..symptoms import NOT_LEARNING
from ..words import count


class Limits(Options):
    min_calls: int = Field(2, ge=1, description="Looked-at calls of one loss that have to agree.")


@rule(
    "LOS103",
    "single-unit-softmax",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, "lr-too-high", "initial-loss"),
    fix="""For two classes from one unit use `F.binary_cross_entropy_with_logits(model(x).squeeze(1), y.float())`
    without a softmax; for a softmax give the last layer one unit a class.""",
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.Softmax.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html",
    ),
    remedies=(RemedyKind.SIGMOID,),
)
def single_unit_softmax(sites: LossSites, limits: Limits) -> Judgement:
    """A softmax over one single unit makes the prediction a constant.

    ## What it does

    Looks for losses whose prediction is a function of nothing but a softmax (or log-softmax) along an axis of size
    1, and for cross entropy with a single class.

    ## Why is it bad?

    The softmax of one number is 1, and its logarithm is 0, whatever the number is. So the prediction is the same for
    every input, the gradient is exactly zero, and no weight ever moves. The loss that is printed is a constant that
    depends on the labels alone, and may look small.

    ## How it is measured

    By identity, in the graph of at least `min-calls` losses: walking back from what the loss receives, through
    operations that have one input only, the first softmax met runs along an axis of size 1, in every call.

    ## When it may be wrong

    - Attention over a single key, a mixture of a single expert, and the like also have such a softmax, but the value
      goes on into products and layers with other inputs: they are not met on this way back, and pass.
    - A final number of 1 where the softmax is only one of several terms is not judged.

    ## How to fix

    ```python
    self.head = nn.Linear(64, 1)
    loss = F.binary_cross_entropy_with_logits(self.head(h).squeeze(1), y.float())
    probability = self.head(h).sigmoid()  # only to show or to threshold
    ```
    """
    sized = [site for site in sites.sites if site.calls > 0 and _is_classification(site)]
    if not sized:
        raise NotApplicable("no loss rests on a softmax")
    seen = [site for site in sized if site.calls >= limits.min_calls]
    if not seen:
        most = max(site.calls for site in sized)
        raise Inconclusive(f"needs {limits.min_calls} looked-at calls of one loss, saw {most}")
    faulty = [site for site in seen if _units(site) == 1]
    yield Measured(
        float(min(_units(site) for site in seen)),
        2.0,
        f"{count(len(seen), 'loss')} on a softmax, {len(faulty)} over one unit",
    )
    places: set[Location | None] = set()
    for site in sorted(faulty, key=lambda site: site.function == "backward"):
        place = site.operation_location or site.location
        if place in places or (places and "oftmax" not in site.operation):
            continue  # the loss call and the whole loss tell of the same softmax
        places.add(place)
        yield _finding(site)


def _own_softmax(site: LossSite) -> bool:
    """cross_entropy applies the softmax itself, along axis 1 (or the only one)."""
    return site.function == "cross_entropy" and bool(site.input_shape)


def _is_classification(site: LossSite) -> bool:
    return _own_softmax(site) or site.softmax_size is not None


def _units(site: LossSite) -> int:
    if site.softmax_size == 1 or not _own_softmax(site):
        return site.softmax_size if site.softmax_size is not None else 2
    return site.input_shape[1 if len(site.input_shape) > 1 else 0]


def _finding(site: LossSite) -> Finding:
    own = site.softmax_size != 1
    shape = "x".join(map(str, site.input_shape))
    if own:
        what = (
            f"cross_entropy gets one class ({shape}): its softmax over a single unit is always 1, and the loss always 0"
        )
    elif site.function == "backward":
        what = (
            "the loss is a function of a softmax over one unit only: that is 1 for every input, so no weight gets a "
            "gradient"
        )
    else:
        name = "the hand-written loss" if site.function in ("-", "*") else site.function
        what = (
            f"{name} gets the softmax of a single unit ({shape}): it is the same for every input, so no weight gets a "
            "gradient"
        )
    return Finding(
        message=what,
        where=site.operation_layer or ("loss" if site.function in ("-", "*", "backward") else site.function),
        location=(site.location if own else site.operation_location) or site.location,
        measured=1.0,
        limit=2.0,
        confidence=Confidence.CONFIRMED,
        detail=(f"in all {count(site.calls, 'call')} looked at",),
        remedies=() if own else (Remedy(kind=RemedyKind.SIGMOID, subject="softmax", site=site.operation_location),),
    )
