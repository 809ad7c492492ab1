"""DAT107: labels that the loss cannot mean."""

from __future__ import annotations

import math

from pydantic import Field

from auditor.declare import Confidence, Finding, Judgement, Measured, NotApplicable, Options, Severity, rule
from auditor.evidence import Labels, LossSite, LossSites, Remedy, RemedyKind, Run

from ..symptoms import NOT_LEARNING
from ..words import count, listing, number, percent

BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
SIGNED = ("soft_margin_loss", "hinge_embedding_loss")  # of labels -1 and 1
OUT_OF_BOUNDS = ("out of bounds", "between 0 and 1", "t >= 0 && t < n_classes", "device-side assert")


class Limits(Options):
    min_labels: int = Field(200, ge=10, description="Training labels to see before a class counts as missing.")
    min_of_each: int = Field(
        20, ge=5, description="Training labels of the rarest other class, for a missing first one to be no chance."
    )
    min_held_out: int = Field(5, ge=1, description="Held-out samples of a class that is missing in training.")


@rule(
    "DAT107",
    "invalid-labels",
    severity=Severity.ERROR,
    explains=NOT_LEARNING,
    fix="""Map the labels to 0 .. C-1 (or 0 and 1) once, for all splits by the same table:
    `classes = sorted(set(labels)); y = [classes.index(label) for label in labels]`.""",
    remedies=(RemedyKind.REPAIR_LABELS,),
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html",
    ),
)
def invalid_labels(labels: Labels | None, sites: LossSites | None, run: Run, limits: Limits) -> Judgement:
    """The labels are outside of what the loss can mean, are all of one class, or miss a class that is tested.

    ## What it does

    Compares the labels that the loss function receives with the range that it is defined for, counts the classes in
    training, and those that occur in the held-out data alone.

    ## Why is it bad?

    The binary cross entropy takes any number as its target: for labels -1 and 1, or masks of 0 and 255, it has no
    minimum, and the logits grow for ever. Training labels of a single class teach the answer without the question. And
    a class that occurs only in the held-out data (a sorted data set, cut in two) cannot be learned.

    ## How it is measured

    By identity: targets of a binary cross entropy outside [0, 1], or of 0 and 1 in a loss of margins
    (`soft_margin_loss`, `hinge_embedding_loss`), whose formula is constant for a target of 0; a training set of one
    class, over at least `min-labels` labels; classes with `min-held-out` held-out samples and none in the whole
    training set. A class 0 that never occurs, in training nor in held-out data, where all the others do (`min-of-each`
    times), is a note: labels that are counted from one leave the first output without a meaning, and whatever
    translates answers back by their number is one off. A script that ended because a label was out of bounds is
    reported at its line.

    ## When it may be wrong

    - `ignore_index`, soft labels within [0, 1], mixed labels and label smoothing pass.
    - Class 0 may be kept free on purpose, for what is unknown or a background: hence the note.
    - A single class is legitimate for one-class detection and for a dummy target; waive it there.
    - Classes missing in training are only reported where the labels of the whole training set are known.

    ## How to fix

    ```python
    y = (y == 1).float()            # -1 and 1 become 0 and 1
    mask = (mask > 127).float()     # 0 and 255 become 0 and 1
    ```
    """
    crash = run.crash.message if run.crash is not None else ""
    binary = [site for site in sites.sites if site.function in BINARY and site.targets] if sites is not None else []
    outside = [site for site in binary if site.target_min < -1e-6 or site.target_max > 1 + 1e-6]
    broken = bool(crash) and any(words in crash for words in OUT_OF_BOUNDS)
    signed = [site for site in sites.sites if site.function in SIGNED and site.targets] if sites is not None else []
    if labels is None and not binary and not signed and not broken:
        raise NotApplicable("no loss with class labels was called in training")
    yield Measured(0.0, 0.0, "every label is within the range of its loss")
    if broken and run.crash is not None:
        yield Finding(
            message=f"the loss refuses a label: {crash[:200]}",
            location=run.crash.location,
            measured=1.0,
            limit=0.0,
            confidence=Confidence.CONFIRMED,
        )
    for site in outside:
        yield _out_of_range(site)
    for site in signed:
        if site.target_min == 0 and 0 < site.target_mean < 1 == site.target_max:
            yield _unsigned(site)
    if labels is not None:
        yield from _missing(labels, _from_data(labels, sites), limits)
        yield from _from_one(labels, _from_data(labels, sites), limits)


def _out_of_range(site: LossSite) -> Finding:
    return Finding(
        message=(
            f"the targets of {site.function} lie between {number(site.target_min)} and {number(site.target_max)}: it "
            "is defined for 0 to 1 only, and has no minimum beyond"
        ),
        where=site.function,
        location=site.location,
        measured=site.target_max if site.target_max > 1 else site.target_min,
        limit=1.0 if site.target_max > 1 else 0.0,
        confidence=Confidence.CONFIRMED,
        remedies=(Remedy(kind=RemedyKind.REPAIR_LABELS, site=site.location),),
    )


def _unsigned(site: LossSite) -> Finding:
    return Finding(
        message=(
            f"the targets of {site.function} are 0 and 1, and it is made for -1 and 1: of "
            f"{percent(1 - site.target_mean)} of the samples, those with 0, the model is told nothing"
        ),
        where=site.function,
        location=site.location,
        measured=site.target_min,
        limit=-1.0,
        confidence=Confidence.CONFIRMED,
        fix="Make them signs: `y = 2 * y - 1`.",
        remedies=(),
    )


def _from_data(labels: Labels, sites: LossSites | None) -> bool:
    """Whether the labels are those of the data: a GAN calls its loss with all ones, and elsewhere with all zeros."""
    return labels.complete or (sites is not None and len(sites.sites) == 1 and sites.sites[0].calls > 0)


def _from_one(labels: Labels, from_data: bool, limits: Limits) -> Judgement:
    """Class 0 alone never occurs: classes that are counted from one."""
    others = labels.counts[1:]
    unknown = labels.per_position or labels.ignore_index == 0 or (labels.class_weights or (1.0,))[0] == 0
    if unknown or not from_data or len(others) < 2 or labels.counts[0] or sum(labels.held_out_counts[:1]):
        return
    if sum(others) < limits.min_labels or min(others) < limits.min_of_each:
        return
    yield Finding(
        message=(
            f"class 0 never occurs in {count(sum(others), 'training label')}, and each of the classes 1 to "
            f"{len(others)} does: are they counted from one? Then the first output means nothing, and answers that are "
            "translated by their number are one off"
        ),
        where="class 0",
        location=labels.data_location or labels.location,
        measured=0.0,
        limit=float(limits.min_of_each),
        severity=Severity.NOTE,
        confidence=Confidence.CONFIRMED,
        detail=(f"labels per class: {listing([str(each) for each in labels.counts])}",),
        remedies=(),
    )


def _missing(labels: Labels, from_data: bool, limits: Limits) -> Judgement:
    total = sum(labels.counts)
    present = [index for index, amount in enumerate(labels.counts) if amount > 0]
    if (
        from_data
        and len(present) == 1
        and labels.classes > 1
        and total >= limits.min_labels
        and not labels.per_position
    ):
        yield Finding(
            message=f"all of {count(total, 'training label')} are class {present[0]}, of {labels.classes} classes",
            where=f"class {present[0]}",
            location=labels.data_location or labels.location,
            measured=1.0,
            limit=2.0,
            confidence=Confidence.CONFIRMED,
        )
        return
    held = dict(enumerate(labels.held_out_counts))
    absent = [
        index for index, amount in enumerate(labels.counts) if amount == 0 and held.get(index, 0) >= limits.min_held_out
    ]
    if not absent or not labels.complete or total < limits.min_labels:
        return
    share = sum(held[index] for index in absent) / max(1, sum(held.values()))
    noun = "class" if len(absent) == 1 else "classes"
    yield Finding(
        message=(
            f"{noun} {listing([str(index) for index in absent])} {'occurs' if len(absent) == 1 else 'occur'} in the "
            f"held-out data ({percent(share) if math.isfinite(share) else share} of it) and never in training"
        ),
        where=f"{noun} {listing([str(index) for index in absent])}",
        location=labels.data_location or labels.location,
        measured=float(len(absent)),
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        detail=(f"counted over all of {count(total, 'training label')}",),
    )
