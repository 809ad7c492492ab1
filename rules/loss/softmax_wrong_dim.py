"""LOS104: a softmax runs along the samples of the batch, or along an axis with one entry."""

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
from auditor.evidence import CrossSample, Location, LoneSoftmax, LossSite, LossSites, PickedClass, Remedy, RemedyKind

from ..symptoms import NOT_LEARNING
from ..words import count, number, percent

THROUGH = ("softmax", "log_softmax")


class Limits(Options):
    max_row_error: float = Field(
        0.05, gt=0, lt=1, description="Rows whose log-sum-exp differs from 0 by no more than this are normalized."
    )
    max_moved: float = Field(
        1e-4, gt=0, lt=1, description="Largest change of another sample's output, relative to the size of the outputs."
    )


@rule(
    "LOS104",
    "softmax-wrong-dim",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, "cross-sample-dependence", "double-softmax", "initial-loss"),
    fix="Run it along the classes or keys, `scores.softmax(dim=-1)`; dimension 0 is the batch.",
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.Softmax.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.log_softmax.html",
    ),
    remedies=(RemedyKind.SOFTMAX_AXIS,),
)
def softmax_wrong_dim(sites: LossSites, mixed: CrossSample | None, limits: Limits) -> Judgement:
    """A softmax is taken along the wrong axis: samples compete instead of classes, or nothing competes at all.

    ## What it does

    Looks for a softmax or log-softmax whose axis is the one that counts the samples: as the input of a loss, and
    inside the model. And for one along an axis of a single entry, whose results weigh the summands of a sum.

    ## Why is it bad?

    Each class then spreads a probability of 1 over the samples of the batch. What a sample gets depends on which
    others happen to be with it, the loss rewards being different from them, and at a batch size of 1 every
    prediction is 1. Shapes fit, nothing fails. `nn.Softmax()` without `dim` chooses this axis by itself for some
    numbers of dimensions. A softmax over one entry is 1 whatever goes in: attention weights of
    the shape (samples, steps, 1), normalized along the last axis, select nothing, and what scores the steps never
    learns.

    ## How it is measured

    - As the input of a loss, by identity: the last operation is a softmax along axis 0 of (samples, classes). Or
      `nll_loss` gets what a log-softmax made, or the logarithm of a softmax, and the probabilities of a sample's
      classes do not add up to 1: log-sum-exp is off 0 by more than `max-row-error`.
    - In a cross entropy written by hand, by identity, from the autograd graph: one class of each sample is picked
      along one axis of a table of log-probabilities that are normalised along the other.
    - Inside the model, by experiment: one sample of a batch is replaced by another in evaluation mode. The outputs
      of *other* samples move by more than `max-moved`, and stay where they are once the results of the softmax along
      the batch are held fixed. So the mixing goes through it and through nothing else.
    - Over a single entry, by identity, from the autograd graph: the normalized axis has the size 1, and the product
      with the results is summed along another axis, neither the batch nor of size 1, at every step looked at.

    - Over the wrong one of two equal axes, by identity, from the autograd graph: the softmax runs along one axis of a
      square table of weights (queries and keys, nodes and neighbours), and every matrix product with it sums along the
      other one.

    ## When it may be wrong

    - Contrastive losses compare the samples of a batch on purpose. A square of similarities, labels that are the
      position in the batch, and everything outside the model but the input of a loss are not judged.
    - Attention over a (length, batch, ...) layout, dispatching experts and pooling over a bag have an axis 0 that is
      no batch: without a loader whose batch size agrees with all its tensors the question is not asked.
    - Attention with one key, a mixture with one expert and a single class pass: there the sum runs along the axis of
      one entry itself, or there is none.
    - Weights that assign inputs to slots, clusters or capsules compete along the other axis on purpose: only square
      tables are judged, none that is normalized once more before it is used, and the finding is a warning.
    - Where the samples are also mixed by other operations, the softmax is not blamed alone: inconclusive.

    ## How to fix

    ```python
    probabilities = self.head(h).softmax(dim=1)      # (samples, classes)
    weights = scores.softmax(dim=-1)                 # (samples, queries, keys)
    ```
    """
    direct = [site for site in sites.sites if _along_samples(site, sites.batch_size)]
    picked = sites.picked if sites.picked is not None and _picked_across(sites.picked) else None
    other = [site for site in sites.sites if site not in direct and _along_another(site, limits)]
    moved = mixed is not None and mixed.mixing > 0 and abs(mixed.moved) > limits.max_moved
    inside = moved and mixed is not None and mixed.through in THROUGH
    crossed = [softmax for softmax in sites.crossed_softmaxes if softmax.calls > 1]
    lone = [softmax for softmax in sites.lone_softmaxes if softmax.calls > 1]
    alone = f", {len(lone)} over one entry that weigh a sum" if lone else ""
    yield Measured(
        float(len(direct) + len(other) + inside + len(lone) + len(crossed) + (picked is not None)),
        0.0,
        f"{count(sites.batch_softmaxes, 'softmax call')} along the batch seen, "
        f"{len(direct) + len(other)} as the input of a loss"
        f"{alone}",
    )
    if picked is not None:
        yield _picked(picked)
    for softmax in lone:
        yield _over_one(softmax)
    for softmax in crossed:
        yield _crossed(softmax)
    for site in direct:
        yield _as_input(site)
    for site in other:
        yield _not_classes(site)
    if mixed is not None and inside and not direct and not other:
        yield _inside(sites, mixed)
    if direct or other or inside or lone or crossed or picked:
        return
    if sites.batch_softmaxes == 0:
        raise NotApplicable("no softmax along the samples of the batch was seen")
    if mixed is None:
        raise Inconclusive("a softmax runs along the first axis, and whether that axis counts samples was not tested")
    if moved:
        raise Inconclusive("samples depend on each other, but not through a softmax along the batch alone")


def _picked_across(picked: PickedClass) -> bool:
    """No square of similarities, whose rows and columns may both be normalised."""
    apart = {picked.normalised, picked.classes} == {0, 1} and len(set(picked.shape)) == len(picked.shape) == 2
    return apart and picked.calls > 1


def _picked(picked: PickedClass) -> Finding:
    return Finding(
        message=(
            f"the loss picks one of {picked.shape[picked.classes]} classes of each sample, and its probabilities add "
            f"up to 1 over the {picked.shape[picked.normalised]} samples of the batch (axis {picked.normalised}), not "
            "over the classes"
        ),
        where="loss",
        location=picked.location,
        measured=1.0,
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        fix=f"Sum the exponentials over the classes: `torch.logsumexp(logits, dim={picked.classes}, keepdim=True)`.",
        remedies=(),
    )


def _along_samples(site: LossSite, batch: int) -> bool:
    """The input is (samples, classes), no square table of similarities."""
    shape = site.input_shape
    return (
        site.softmax_axis == 0
        and site.calls > 1
        and len(shape) == 2
        and shape[0] == batch > 1
        and shape[1] not in (1, batch)
        and not site.own_index
    )


def _along_another(site: LossSite, limits: Limits) -> bool:
    """nll_loss gets what a log-softmax made, and yet its classes do not add up to 1."""
    if site.normalizer_axis is None or not site.input_shape or site.calls < 2:
        return False
    classes = site.input_shape[1 if len(site.input_shape) > 1 else 0]
    # Of a part of the classes alone, the probabilities add up to less than 1: there, the axis that was cut is the one.
    others = [side for axis, side in enumerate(site.normalizer) if axis != site.normalizer_axis]
    off = site.row_error is not None and math.isfinite(site.row_error) and abs(site.row_error) > limits.max_row_error
    return site.function == "nll_loss" and classes in others and off and not site.own_index


def _axis(function: str, site: Location | None) -> Remedy:
    return Remedy(kind=RemedyKind.SOFTMAX_AXIS, amount=1.0, subject=function, site=site)


def _not_classes(site: LossSite) -> Finding:
    axis = site.normalizer_axis if site.normalizer_axis is not None else 0
    shape = f"({', '.join(map(str, site.normalizer))})"
    return Finding(
        message=(
            f"the softmax before nll_loss runs along axis {axis} of {shape}, which is not that of the classes: the "
            f"logarithm of their sum is off 0 by up to {number(abs(site.row_error or 0.0))}"
        ),
        where=site.operation_layer or site.function,
        location=site.operation_location or site.location,
        measured=abs(site.row_error or 0.0),
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        remedies=(_axis("log_softmax", site.operation_location),),
        detail=(f"in all {count(site.calls, 'call')} looked at",),
    )


def _as_input(site: LossSite) -> Finding:
    samples, classes = site.input_shape
    name = "the hand-written loss" if site.function in ("-", "*") else site.function
    return Finding(
        message=(
            f"{name} gets a softmax along axis 0 of ({samples}, {classes}): its {samples} samples share a probability "
            f"of 1 for each of {classes} classes, instead of the reverse"
        ),
        where=site.operation_layer or site.function,
        location=site.operation_location or site.location,
        measured=1.0,
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        remedies=(_axis("log_softmax" if "Log" in site.operation else "softmax", site.operation_location),),
        detail=(f"in all {count(site.calls, 'call')} looked at",),
    )


def _over_one(softmax: LoneSoftmax) -> Finding:
    shape = f"({', '.join(map(str, softmax.shape))})"
    return Finding(
        message=(
            f"a softmax runs along the axis of one entry of {shape}, so that all weights are 1: the "
            f"{softmax.summands} summands that they weigh are added up as they are"
        ),
        where=softmax.layer,
        location=softmax.location,
        measured=1.0,
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        detail=(f"in all {count(softmax.calls, 'call')} looked at",),
        fix=f"Run it along the axis of the {softmax.summands} summands, `scores.softmax(dim=1)` for "
        "(samples, steps, 1).",
        remedies=(Remedy(kind=RemedyKind.SOFTMAX_AXIS, amount=1.0, subject="softmax", site=softmax.location),),
    )


def _crossed(softmax: LoneSoftmax) -> Finding:
    shape = f"({', '.join(map(str, softmax.shape))})"
    rank = len(softmax.shape)
    axis = softmax.axis if softmax.axis is not None else rank - 2
    other = 2 * rank - 3 - axis
    return Finding(
        message=(
            f"a softmax runs along axis {axis} of the weights {shape}, and the product with them sums along axis "
            f"{other}: the {softmax.summands} summands do not compete, and their weights add up to anything"
        ),
        where=softmax.layer,
        location=softmax.location,
        measured=1.0,
        limit=0.0,
        severity=Severity.NOTE,  # no experiment has shown that it matters
        confidence=Confidence.SUSPECTED,
        detail=(f"in all {count(softmax.calls, 'call')} looked at",),
        fix=f"Run it along the axis that is summed, `scores.softmax(dim={other})`.",
        remedies=(),
    )


def _inside(sites: LossSites, mixed: CrossSample) -> Finding:
    place = sites.batch_softmax_location
    return Finding(
        message=(
            f"a softmax in {mixed.module} runs along the batch: replacing one of "
            f"{count(mixed.batch_size, 'sample')} moves the outputs of {percent(mixed.others)} of the others, by up to "
            f"{number(mixed.moved)} of their size"
        ),
        where=mixed.layer or mixed.module,
        location=place or mixed.location or mixed.model_location,
        measured=1.0,
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        detail=("with the results of that softmax held fixed, the other samples stay where they are",),
        remedies=(_axis("softmax", place),) if place is not None else (),
    )
