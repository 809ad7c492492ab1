"""LEK103: the same patient, speaker or user is on both sides of the split."""

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
from auditor.evidence import GroupOverlap, Groups, Remedy, RemedyKind

from ..words import count, listing, percent


class Limits(Options):
    max_share: float = Field(
        0.0, ge=0, lt=1, description="Largest share of held-out samples whose group also has training samples."
    )


@rule(
    "LEK103",
    "group-leakage",
    severity=Severity.ERROR,
    fix="""Split by group, not by sample: `GroupShuffleSplit(test_size=0.2, random_state=0).split(x, y, groups)` of
    scikit-learn, or shuffle the list of groups and cut that.""",
    references=(
        "https://scikit-learn.org/stable/modules/cross_validation.html#group-cv",
        "https://arxiv.org/abs/2207.07048",
        "https://doi.org/10.1093/gigascience/gix019",
    ),
    remedies=(RemedyKind.DROP_GROUPS,),
)
def group_leakage(groups: Groups, limits: Limits) -> Judgement:
    """The same patient, speaker or user has samples on both sides of the split.

    ## What it does

    Compares the groups of the training samples with those of the held-out samples, by a key that you declare, or by
    one that the samples name.

    ## Why is it bad?

    Samples of one patient resemble each other more than those of two patients. If a patient is on both sides, the
    model may recognise the patient instead of the disease, and the held-out score says how well it does with patients
    that it knows. New ones are what it will meet.

    ## How it is measured

    By identity. Name the field that tells whose sample it is in `pyproject.toml`:

        [tool.auditor]
        group-key = "patient_id"

    It may be an attribute of the data set with one entry a sample, a column of a table that the data set keeps, or
    a field of the samples. The rule fails when more than `max-share` of the held-out samples belong to a group that
    has training samples too.

    Without a declared key, the only field or attribute of the data set that is called after a patient, subject,
    speaker, donor, machine or the like is taken, where all samples of one group have the same label and there are at
    least twice as many groups as labels, or the labels are measured: then whose sample it is tells the answer. This is
    a warning.

    ## When it may be wrong

    - Without a declared key, and without such a field, the rule is off: nothing in the data says what a group is.
    - Where every group is meant to be known (speaker identification, recommendations for known users), there is no
      leak: do not declare a key.
    - If not all samples could be read in time, a pass holds for those that were.

    ## How to fix

    ```python
    patients = sorted(set(patient_ids))
    random.Random(0).shuffle(patients)
    held_out = set(patients[: len(patients) // 5])
    val_indices = [i for i, patient in enumerate(patient_ids) if patient in held_out]
    train_indices = [i for i, patient in enumerate(patient_ids) if patient not in held_out]
    ```
    """
    held_out = [split for split in groups.splits if split.role == "held-out" and split.samples > 0]
    training = [split for split in groups.splits if split.role == "training" and split.samples > 0]
    if not held_out or not training:
        raise NotApplicable("there are no training and held-out samples to compare")
    if max(split.groups for split in training) <= 1:
        raise Inconclusive(f"all training samples have the same {groups.key}: this is no key of groups")
    worst = max(groups.overlaps, key=_share, default=None)
    share = _share(worst) if worst is not None else 0.0
    some = "" if groups.complete else ", of the samples that could be read in time"
    yield Measured(
        share,
        limits.max_share,
        f"{percent(share)} of the held-out samples share their {groups.key} with training samples{some}",
    )
    for overlap in groups.overlaps:
        if _share(overlap) > limits.max_share:
            yield _finding(groups, overlap, limits)


def _share(overlap: GroupOverlap) -> float:
    return min(1.0, overlap.samples / max(1, overlap.held_out_samples))


def _finding(groups: Groups, overlap: GroupOverlap, limits: Limits) -> Finding:
    detail = [f"for example {listing(overlap.examples, 3)}"] if overlap.examples else []
    if not groups.declared:
        detail.append(f"all samples of one {groups.key} have the same label: to know the {groups.key} is to know it")
    return Finding(
        message=(
            f"{overlap.shared} of {count(overlap.held_out_groups, 'value')} of {groups.key} in {overlap.held_out} are "
            f"also in {overlap.training}: {percent(_share(overlap))} of its {count(overlap.held_out_samples, 'sample')}"
            " belong to groups that the model has trained on"
        ),
        where=overlap.held_out,
        location=overlap.location,
        measured=_share(overlap),
        limit=limits.max_share,
        severity=None if groups.declared else Severity.WARNING,
        confidence=Confidence.CONFIRMED if groups.declared else Confidence.SUSPECTED,
        detail=tuple(detail),
        remedies=(Remedy(kind=RemedyKind.DROP_GROUPS, subject=overlap.held_out),),
    )
