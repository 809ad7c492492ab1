"""DAT104: batches hold NaN or infinity."""

from __future__ import annotations

from pydantic import Field

from auditor.declare import Confidence, Finding, Judgement, Measured, NotApplicable, Options, Severity, rule
from auditor.evidence import Batches, Inputs, Location, Nonfinite, NonfiniteBatch, RemedyKind

from ..symptoms import NOT_LEARNING
from ..words import count, listing, named, percent

FEW = 2  # batches that have to be lost


class Limits(Options):
    max_lost: float = Field(
        0.02, ge=0, lt=1, description="Share of the batches that may be given up because of such values."
    )
    min_lost_for_error: float = Field(0.1, gt=0, le=1, description="Share from which giving up batches is an error.")


@rule(
    "DAT104",
    "nonfinite-inputs",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, "nonfinite-loss", "exploding-gradients"),
    fix="""Drop or fill such rows before training, and check once: `assert torch.isfinite(x).all()`.""",
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.isfinite.html",
        "https://scikit-learn.org/stable/modules/impute.html",
    ),
    remedies=(RemedyKind.CLEAN_INPUTS,),
)
def nonfinite_inputs(
    batches: Batches | None, inputs: Inputs | None, nonfinite: Nonfinite | None, limits: Limits
) -> Judgement:
    """The data hold NaN or infinity, and the loss becomes one, or the batches are given up.

    ## What it does

    Looks through every batch that the training loader hands out - inputs and targets - and, in loops without a loader,
    through what the model and the loss are called with.

    ## Why is it bad?

    One NaN in one feature of one row makes that row's output, the mean loss of its batch, every gradient and, after the
    step, every weight NaN. The run never recovers, however long it goes on. A loop that skips batches whose loss is NaN
    saves the weights, but not the running statistics of batch norms: the forward has moved them, and in evaluation mode
    every output is NaN from then on. And a loop that skips such batches of 64 rows loses half of its data by one bad
    row in a hundred, and cannot answer such rows in production.

    ## How it is measured

    By identity: the values are counted, with the first batch, row and column that hold one. The finding is an error
    when the loss or a gradient was not finite either, or when the running statistics of a layer have become so. A
    program where all of these stay finite has masked or filled the values itself, and passes - unless it gives the
    batches up: more than `max-lost` of all batches held such a value and never became an update, because no backward()
    followed or a GradScaler skipped the step, while nearly all of the other batches did.

    ## When it may be wrong

    - Tensors of zeros and negative infinities are attention masks and are left out.
    - Missing targets that are marked by NaN and taken out of the loss are fine, and pass.
    - Batches that the loader puts on a device itself are not looked at.

    ## How to fix

    ```python
    known = torch.isfinite(x).all(1) & torch.isfinite(y)
    x, y = x[known], y[known]
    ```
    """
    if batches is None and inputs is None:
        raise NotApplicable("no loader and no floating-point input was seen")
    found = batches.nonfinite if batches is not None else ()
    elsewhere = inputs.nonfinite if inputs is not None and not found else 0
    if not found and elsewhere <= 0 and nonfinite is not None and nonfinite.target_nonfinite:
        yield Measured(1.0, 0.0, "the targets of the loss are not finite")
        yield Finding(
            message=f"the targets of the loss hold NaN or infinity, and the loss does from step {nonfinite.first_step}",
            location=nonfinite.loss_location,
            measured=1.0,
            limit=0.0,
            confidence=Confidence.CONFIRMED,
        )
        return
    if not found and elsewhere <= 0:
        yield Measured(0.0, 0.0, "all values are finite")
        return
    total = sum(each.nan + each.infinite for each in found) or elsewhere
    entered = not found or any(not each.target for each in found)
    spoilt = nonfinite.spoilt if nonfinite is not None and entered else ()
    suffered = nonfinite is not None and (nonfinite.first_step is not None or bool(spoilt))
    given_up = batches is not None and _gives_up(batches, limits)
    masked = "" if suffered or given_up else ", but the loss stayed finite: they are masked or filled"
    yield Measured(float(total), 0.0, f"{count(total, 'value')} not finite in the first such batch{masked}")
    if batches is not None and found and (suffered or given_up):
        place = batches.location or (inputs.model_location if inputs is not None else None)
        yield _finding(batches, found, place, spoilt, suffered, limits)
    elif suffered and inputs is not None:
        yield Finding(
            message=f"the model is called with {count(total, 'value')} that {_verb(total)} NaN or infinite",
            where=inputs.first_layer,
            location=inputs.location or inputs.model_location,
            measured=float(total),
            limit=0.0,
            confidence=Confidence.CONFIRMED,
        )


def _gives_up(batches: Batches, limits: Limits) -> bool:
    """The damaged batches are left out, and hardly any other is."""
    whole = batches.batches - batches.nonfinite_batches
    share = batches.lost / max(1, batches.batches)
    if batches.rows <= batches.batches:  # one sample at a time: only damaged ones are left out
        return False
    all_lost = FEW <= batches.lost >= 0.9 * batches.nonfinite_batches  # the last ones may not have ended yet
    return all_lost and share > limits.max_lost and batches.lost_whole <= 0.1 * whole


def _finding(
    batches: Batches,
    found: tuple[NonfiniteBatch, ...],
    place: Location | None,
    spoilt: tuple[str, ...],
    suffered: bool,
    limits: Limits,
) -> Finding:
    first = found[0]
    share = batches.lost / max(1, batches.batches)
    lost = "" if suffered else f", and were given up: {percent(share)} of the data are never learned from"
    mild = not suffered and share < limits.min_lost_for_error
    source = batches.loader or "the inputs of the model"
    what = "targets" if first.target else "inputs"
    column = f", column {first.feature}" if first.feature is not None else ""
    places = [f"'{each.place}'" for each in found]
    damaged = count(batches.nonfinite_batches, "batch")
    return Finding(
        message=(
            f"{damaged} of {batches.batches} of {source} {_held(batches)} NaN or infinity in the {what}, "
            f"first in batch {first.batch}, row {first.sample}{column}{lost}"
        ),
        where=batches.loader,
        location=place,
        measured=float(sum(each.nan + each.infinite for each in found)),
        limit=0.0,
        severity=Severity.WARNING if mild else None,
        confidence=Confidence.CONFIRMED,
        detail=(
            f"in the tensor{'s' if len(places) > 1 else ''} {listing(places)} of the batch: "
            f"{count(sum(each.nan for each in found), 'NaN')} and {sum(each.infinite for each in found)} infinite",
            *_spoilt(spoilt),
        ),
    )


def _spoilt(layers: tuple[str, ...]) -> list[str]:
    names = listing([named(layer) for layer in layers], 3)
    return [f"the running statistics of {names} have not been finite since"] if layers else []


def _held(batches: Batches) -> str:
    return "holds" if batches.nonfinite_batches == 1 else "hold"


def _verb(total: int) -> str:
    return "is" if total == 1 else "are"
