"""FIT106: one class is predicted for everything, though the classes are balanced."""

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
from auditor.evidence import Labels, Overfit, Remedy, RemedyKind, Trajectory

from ..words import count, number, percent


class Limits(Options):
    min_share: float = Field(
        0.95, gt=0.5, le=1, description="Share of the batches in which all samples get one and the same class."
    )
    min_samples: int = Field(200, ge=50, description="Predictions to see at the end of the probe.")
    min_entropy: float = Field(
        0.5, gt=0, description="Entropy of the labels in nats below which class-imbalance is asked."
    )
    min_steps: int = Field(40, ge=10, description="Observed steps that a start may take.")
    min_favour: float = Field(
        2.0,
        gt=1,
        description="Weight of the most frequent class over the rarest's, for weights the wrong way up.",
    )
    min_seen: int = Field(20, ge=5, description="Samples of the rarest class to see, for weights the wrong way up.")
    max_recall: float = Field(0.3, ge=0, lt=1, description="Largest recall of that class, for such weights to do harm.")
    alpha: float = Field(0.01, gt=0, lt=0.5, description="Error rate of the interval of the accuracy.")


@rule(
    "FIT106",
    "majority-class-collapse",
    severity=Severity.ERROR,
    explains=("loss-plateau", "class-imbalance"),
    fix="""See whether the output depends on the input, `print(model(x).std(0))`, whether labels and inputs belong
    together, and whether the gradient reaches the first layer.""",
    references=(
        "https://karpathy.github.io/2019/04/25/recipe/",
        "https://doi.org/10.1080/01621459.1927.10502953",
    ),
    remedies=(
        RemedyKind.CLASS_WEIGHTS,
        (RemedyKind.RATE, 0.25),
        RemedyKind.REINITIALIZE,
    ),
)
def majority_class_collapse(
    labels: Labels, trajectory: Trajectory, overfit: Overfit | None, limits: Limits
) -> Judgement:
    """The model gives the same class to every sample, and cannot be taught a few samples either.

    ## What it does

    Counts, over the last third of the probe, which classes the model predicted, and compares its accuracy with the
    share of the most frequent class.

    ## Why is it bad?

    A model that answers the same to everything has not looked at its input. The loss may still fall a little - towards
    the entropy of the labels - and the accuracy reads as that of the most frequent class, which can look respectable.

    ## How it is measured

    In at least `min-share` of the late batches all samples get one class (which may change from step to step), over at
    least `min-samples` predictions, while the labels have an entropy of at least
    `min-entropy` nats; the Wilson interval of the accuracy, with error rate `alpha`, holds the most frequent class's
    share; and `min-steps` steps were taken. That alone may be a slow start. So the overfit experiment decides: the rule
    fails when no learning rate taught the loop a few samples, and is inconclusive when one did.

    Unequal classes have another way: class weights that the loss was given grow with the counts of the classes from the
    rarest to the most frequent one, by `min-favour` in all - the frequencies themselves in place of their inverse - and
    of at least `min-seen` samples of the rarest class at most `max-recall` were recognised.

    ## When it may be wrong

    - Other unequal classes are the matter of class-imbalance.
    - Dense labels (segmentation, tokens) are not judged.
    - This is a symptom. Where its cause is found, it is listed below that.

    ## How to fix

    ```python
    x, y = next(iter(loader))
    print(model(x).std(dim=0))                 # all zeros: the input does not reach the output
    print(torch.bincount(model(x).argmax(1)))  # one class only
    ```
    """
    total, predicted = sum(labels.seen), labels.predicted
    if labels.per_position or labels.classes < 2:
        raise NotApplicable("the labels are not one class per sample")
    favour = _favour(labels)
    if favour >= limits.min_favour:
        yield from _upside_down(labels, favour, limits)
        return
    entropy = _entropy(labels.counts)
    if entropy < limits.min_entropy:
        raise NotApplicable(f"the labels are unequal (entropy {number(entropy)} nats): see class-imbalance")
    if sum(predicted) < limits.min_samples or not total:
        raise Inconclusive(f"needs {limits.min_samples} predictions at the end of the probe, saw {sum(predicted)}")
    if labels.late_batches <= 0:
        raise Inconclusive("the batches are too small to tell one prediction for everything from chance")
    share = labels.uniform_batches / labels.late_batches
    favourite = predicted.index(max(predicted))
    text = f"all samples of a batch get the same class in {percent(share)} of {count(labels.late_batches, 'batch')}"
    yield Measured(share, limits.min_share, text)
    if share < limits.min_share:
        return
    steps = len(trajectory.losses)
    if steps < limits.min_steps:
        raise Inconclusive(f"{text}, but only {count(steps, 'step')} were seen")
    majority = max(labels.seen) / total
    low, high = _wilson(min(sum(labels.hits), total), total, limits.alpha)
    if not low <= majority <= high and not high < majority:
        return
    if overfit is None:
        raise Inconclusive(f"{text}; the overfit experiment would tell a slow start from it")
    if any(arm.reached for arm in overfit.arms):
        raise Inconclusive(f"{text} so far, but a few samples can be learned: a slow start")
    yield Finding(
        message=(
            f"{text}, mostly class {favourite}, though the most frequent class is {percent(majority)} of the labels, "
            "and a few samples cannot be learned at any rate tried"
        ),
        where=f"class {favourite}",
        location=labels.location,
        measured=share,
        limit=limits.min_share,
        confidence=Confidence.CONFIRMED,
        detail=(
            f"accuracy between {percent(low)} and {percent(high)}, the most frequent class is {percent(majority)}",
        ),
    )


def _favour(labels: Labels) -> float:
    """Weight of the most frequent class over that of the rarest, where the weights grow with the counts; else 0."""
    pairs = [(n, w) for n, w in zip(labels.counts, labels.class_weights, strict=False) if n > 0]
    pairs.sort()
    weights = [weight for _, weight in pairs]
    if len(pairs) < 2 or weights != sorted(weights) or not weights[0] > 0 or not math.isfinite(weights[-1]):
        return 0.0
    return weights[-1] / weights[0] if pairs[0][0] < pairs[-1][0] else 0.0


def _upside_down(labels: Labels, favour: float, limits: Limits) -> Judgement:
    """Class weights that make the loss count frequent classes even more."""
    counted = [c for c, n in enumerate(labels.counts) if n > 0]
    most, rarest = max(counted, key=labels.counts.__getitem__), min(counted, key=labels.counts.__getitem__)
    seen, hits = (values[rarest] if rarest < len(values) else 0 for values in (labels.seen, labels.hits))
    text = (
        f"the loss weights class {most}, the most frequent one ({labels.counts[most]} samples), {number(favour)} times "
        f"as much as class {rarest}, the rarest ({labels.counts[rarest]})"
    )
    if seen < limits.min_seen:
        raise Inconclusive(f"{text}; needs {limits.min_seen} samples of that class at the end, saw {seen}")
    yield Measured(hits / seen, limits.max_recall, text)
    if hits > limits.max_recall * seen:
        return
    yield Finding(
        message=f"{text}: of the latter {percent(min(1.0, hits / seen))} are recognised",
        where=f"class {rarest}",
        location=labels.location,
        measured=hits / seen,
        limit=limits.max_recall,
        confidence=Confidence.CONFIRMED,
        fix="Weight the classes by the inverse of their frequencies: `weight=counts.sum() / (len(counts) * counts)`.",
        remedies=(Remedy(kind=RemedyKind.CLASS_WEIGHTS),),
    )


def _entropy(counts: tuple[int, ...]) -> float:
    total = sum(counts)
    return -sum(c / total * math.log(c / total) for c in counts if c > 0) if total > 0 else 0.0


def _wilson(hits: int, total: int, alpha: float) -> tuple[float, float]:
    from scipy.stats import binomtest  # type: ignore[import-untyped]

    found = binomtest(max(0, hits), total).proportion_ci(confidence_level=1 - alpha, method="wilson")
    return float(found.low), float(found.high)
