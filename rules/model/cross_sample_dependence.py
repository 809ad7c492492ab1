"""MOD103: a sample's output depends on which other samples are in its batch, or on its place among them."""

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
from auditor.evidence import CrossSample, RemedyKind

from ..symptoms import NOT_LEARNING
from ..words import count, named, number, percent


class Limits(Options):
    max_moved: float = Field(
        1e-4, gt=0, lt=1, description="Largest change of another sample's output, relative to the size of the outputs."
    )
    min_replaced: int = Field(2, ge=1, description="Samples that have to have been replaced.")
    min_placed: float = Field(
        0.5, gt=0, le=1, description="Share of the samples whose output has to change with their place in the batch."
    )
    max_swap_error: float = Field(
        1e-3, gt=0, lt=1, description="Largest error of swapped outputs that still treats all samples alike."
    )


@rule(
    "MOD103",
    "cross-sample-dependence",
    severity=Severity.ERROR,
    explains=NOT_LEARNING,
    remedies=(RemedyKind.BATCH_FIRST, RemedyKind.SWAP_AXES),
    fix="""Keep the batch in its dimension: `nn.LSTM(..., batch_first=True)`, `x.transpose(0, 1)` instead of
    `x.view(...)` to swap dimensions, `softmax(dim=-1)`, `x.flatten(1)`.""",
    references=(
        "https://karpathy.github.io/2019/04/25/recipe/",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.Tensor.view.html",
    ),
)
def cross_sample_dependence(cross: CrossSample, limits: Limits) -> Judgement:
    """A sample's output depends on which other samples happen to be in its batch, or on its place among them.

    ## What it does

    Calls your model in evaluation mode on a batch of the loop, replaces one sample by a copy of another, and looks
    whether the outputs of all *other* samples stay what they were.

    ## Why is it bad?

    Samples mixed with each other by a wrong dimension teach the model from its neighbours in a shuffled batch: the loss
    stays high, or falls for the wrong reason, and a prediction changes with the company it is made in. Typical causes
    are a recurrent or attention layer that takes the sequence first, `view` or `reshape` where dimensions were to be
    swapped, and softmax or means over dimension 0.

    ## How it is measured

    By experiment: up to four samples are replaced, one at a time. Rounding is measured by calling twice and by moving
    every input by its last bit. It fails when every replacement moves another sample's output by more than that and
    by more than `max-moved`; or when some do, and leave the replaced samples' own outputs as they are, which then were
    never theirs. Hooks then name the first module whose output moved.

    Where nothing moved another sample, the whole batch is given in reverse order. It fails when the outputs of at least
    `min-placed` of the samples change with their place, by more than `max-swap-error`, while the first half of the
    batch alone gives what it gave before: a code for the place in time is added along the batch, for example. This is
    asked only where the loader shuffles, and where neither the model nor its arguments keep one row a place.

    It is an error where a layer of torch's takes the sequence first, where softmax runs over the batch, or where two
    samples that swap places do not just swap their outputs (`max-swap-error`). Otherwise the samples are mixed, but all
    alike, which some architectures do on purpose: a warning.

    ## When it may be wrong

    - Batch norm in evaluation mode, contrastive losses on the outputs and tables of similarities pass. Models that use
      the batch's own statistics in evaluation mode (`track_running_stats=False`, a hand-written standardization) are
      inconclusive.
    - Not applicable where it is not certain which dimension counts the samples: graph batches, packed and time-first
      sequences. In a loop without a DataLoader each row has to be a sequence, a table or an image, for which the model
      returns one vector, and fewer rows have to do as well.
    - Attention between the samples of a batch (row attention, retrieval in the batch) is what is measured here. Waive
      it if it is meant.
    - A router with limited capacity moves others for some replacements only, and the replaced samples too: it passes.

    ## How to fix

    ```python
    self.lstm = nn.LSTM(16, 64, batch_first=True)      # for inputs (batch, time, features)
    x = x.transpose(1, 2)                              # swaps; x.view(b, t, c) only counts anew
    weights = scores.softmax(dim=-1)                   # over the keys of one sample
    ```
    """
    if cross.replaced < limits.min_replaced:
        raise Inconclusive(f"needs {count(limits.min_replaced, 'replaced sample')}, saw {max(0, cross.replaced)}")
    if not math.isfinite(cross.moved):
        raise Inconclusive("the outputs of the model are not finite")
    noise = cross.noise if math.isfinite(cross.noise) else math.inf
    limit = max(limits.max_moved, noise)
    yield Measured(
        cross.moved,
        limit,
        f"{cross.mixing} of {count(cross.replaced, 'replaced sample')} moved the output of another one, by up to "
        f"{percent(cross.moved)}",
    )
    if cross.moved <= limit or cross.mixing < 1:
        if (cross.placed or 0.0) >= limits.min_placed and cross.place_error > max(limits.max_swap_error, noise):
            yield _by_place(cross, limits)
        return
    strangers = cross.unmoved == cross.mixing
    if cross.mixing < cross.replaced and not strangers:
        return  # places that are handed out among the samples: not for every one
    if cross.random:
        raise Inconclusive("other samples' outputs moved, but the model draws random numbers in evaluation mode")
    if cross.batch_statistics:
        raise NotApplicable(
            f"{named(cross.batch_statistics[0])} has no running statistics: every output depends on the batch by design"
        )
    if cross.through and cross.through not in ("softmax", "log_softmax"):
        raise Inconclusive(
            f"outputs depend on the other samples through {cross.through}() over the batch, which may be meant"
        )
    yield _finding(cross, limits, limit)


def _finding(cross: CrossSample, limits: Limits, limit: float) -> Finding:
    swap = cross.swap_error
    disordered = swap is not None and not swap <= max(limits.max_swap_error, limit)
    sure = disordered or cross.sequence_first or bool(cross.through)
    return Finding(
        message=(
            f"replacing one sample of a batch of {cross.batch_size} changes the outputs of {percent(cross.others)} of "
            f"the others, by up to {percent(cross.moved)}, in evaluation mode{_place(cross)}"
        ),
        where=cross.layer or cross.module,
        location=cross.location or cross.model_location,
        measured=cross.moved,
        limit=limit,
        severity=None if sure else Severity.WARNING,
        confidence=Confidence.CONFIRMED,
        detail=tuple(_details(cross, disordered)),
    )


def _by_place(cross: CrossSample, limits: Limits) -> Finding:
    first = f"; first seen in the output of {named(cross.layer)} ({cross.layer_kind})" if cross.layer else ""
    return Finding(
        message=(
            "the output of a sample depends on its place in the batch: in reverse order, "
            f"{percent(cross.placed or 0.0)} of the {cross.batch_size} samples get other outputs, "
            f"by up to {percent(cross.place_error)}{first}"
        ),
        where=cross.layer or cross.module,
        location=cross.location or cross.model_location,
        measured=cross.place_error,
        limit=limits.max_swap_error,
        confidence=Confidence.CONFIRMED,
        detail=("no sample moved the output of another one", f"rounding: {number(cross.noise)}"),
        fix="Add what belongs to a place in time along the dimension of time: `x + self.pe[:, : x.size(1)]` for inputs "
        "(batch, time, features).",
        remedies=(),
    )


def _place(cross: CrossSample) -> str:
    if cross.sequence_first:
        return f": {named(cross.layer)} ({cross.layer_kind}) takes the sequence first, not the batch"
    if cross.through:
        return f": {cross.through} runs over the batch"
    if cross.layer and cross.layer != cross.module:
        return f"; first seen in the output of {named(cross.layer)} ({cross.layer_kind})"
    return ""


def _details(cross: CrossSample, disordered: bool) -> list[str]:
    if cross.unmoved:
        return ["the replaced samples' own outputs did not change at all", f"rounding: {number(cross.noise)}"]
    lines = [f"the replaced sample's own output moved by {percent(cross.own)}", f"rounding: {number(cross.noise)}"]
    if disordered and cross.swap_error is not None:
        lines.append(f"when two samples swap places, outputs differ from swapped ones by {percent(cross.swap_error)}")
    return lines
