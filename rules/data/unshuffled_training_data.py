"""DAT301: training samples come sorted by their labels, in the same order every epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
from auditor.evidence import Labels, OrderControl, RemedyKind, SampleOrder
from auditor.paired import untrue

from ..symptoms import NOT_LEARNING
from ..words import count, number, percent


class Limits(Options):
    max_p_value: float = Field(1e-6, gt=0, lt=0.1, description="Largest probability of such runs in a shuffled order.")
    min_excess: float = Field(
        0.3, gt=0, lt=1, description="How far equal neighbours are from chance (0) on the way to fully sorted (1)."
    )
    min_samples: int = Field(200, ge=20, description="Labelled samples of the first pass that have to be seen.")
    min_alikeness: float = Field(
        0.8,
        gt=0,
        lt=1,
        description="Distance of neighbours within a class over chance, below which the order means something.",
    )
    min_drift: float = Field(
        0.3, gt=0, lt=1, description="How far the classes of the first and the last third of the batches lie apart."
    )
    min_pass_drift: float = Field(
        0.5, gt=0, lt=1, description="The same over a whole pass of a stream, which needs no experiment."
    )
    min_gain: float = Field(
        0.2, gt=0, lt=1, description="Share of the loss afterwards that mixed batches have to remove, in the control."
    )
    min_slight_gain: float = Field(
        0.1, gt=0, lt=1, description="The same, of whole batches in another order, for a note."
    )
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")


@rule(
    "DAT301",
    "unshuffled-training-data",
    severity=Severity.WARNING,
    explains=(*NOT_LEARNING, "exploding-gradients", "loss-oscillation", "dead-units"),
    fix="Shuffle the training loader: `DataLoader(train_set, batch_size=64, shuffle=True)`.",
    references=(
        "https://docs.pytorch.org/docs/stable/data.html#data-loading-order-and-sampler",
        "https://arxiv.org/abs/1206.5533",
    ),
    remedies=(RemedyKind.SHUFFLE,),
)
def unshuffled_training_data(
    order: SampleOrder, labels: Labels | None, control: OrderControl | None, limits: Limits
) -> Judgement:
    """Training samples come sorted by their labels, because nothing shuffles them, or not enough.

    ## What it does

    Looks at the order in which samples come - from a loader, a stream, or batches that the loop makes itself - and at
    the labels in that order.

    ## Why is it bad?

    A batch of one class has a gradient that says "predict this class". In a sorted order the network follows one class
    after the other and forgets those before; the loss of the batches looks excellent, and normalization layers estimate
    the statistics of single classes. The order is the same in every epoch, so nothing averages out.

    ## How it is measured

    Of a loader with class labels, two facts are needed together. The sampler goes through the dataset as it lies, so
    that every epoch has the same order. And the labels form runs: the number of neighbours with the same label is
    compared with what a random order of the same labels gives, by a permutation test whose mean and variance are exact.
    It fails when the p-value is below `max-p-value` and the excess of equal neighbours above `min-excess`, over at
    least `min-samples` samples. Some class order is normal, hence the second limit.

    Streams, batches that the loop makes itself and continuous targets (in five ranges) have another way. There the
    batches have to be purer than by chance, by `min-excess`, or the classes of the first and the last third of them lie
    `min-drift` apart (total variation, with a chi-squared test). Then an experiment decides: the same samples from the
    same weights in their order and in mixed batches; it fails when the loss afterwards, on mixed batches, is lower by
    `min-gain` after these. A stream whose batches differ is gone through once more:
    it fails, as a suspicion, when `min-pass-drift` of the labels change from the first third of a pass to the last.

    A sampler of your own forms its batches on purpose, by length say. But where it hands out the same batches in the
    same order in every pass, and the classes of the first and the last third of them lie `min-drift` apart, the same
    experiment is made with whole batches: each as it is, in two other orders, of which the worse one counts. A gain
    above `min-slight-gain` is a note then.

    ## When it may be wrong

    - Windows of a time series and frames of a film have runs of labels too, but their neighbours resemble each other
      also within a class. Where their distance is below `min-alikeness` of that of two random samples of the class, the
      order means something, and there is no verdict.
    - Samplers of your own (curricula, buckets by length) choose an order on purpose. They are judged by the experiment
      alone, and not at all where the order is another one in the next pass.
    - Tasks that are learnt one after the other have a loader each, and each is judged by itself.
    - Without the experiment, or where it shows no harm, it is a statistic: a suspicion, however small the p-value.

    ## How to fix

    ```python
    train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
    ```
    """
    if order.feed != "loader" or (order.continuous and order.sequential):
        yield from _by_control(order, control, limits)
        return
    if order.shuffles:
        yield Measured(0.0, limits.min_excess, f"the training loader is shuffled ({order.sampler or 'its sampler'})")
        return
    if order.own and order.passes > 1 and order.repeated and sum(order.labels) >= limits.min_samples:
        yield from _kept_order(order, control, limits)
        return
    if not order.sequential:
        raise NotApplicable(f"the order comes from a sampler of your own ({order.sampler or 'unknown'})")
    if order.passes > 1 and order.compared and not order.repeated:
        raise NotApplicable("the order changes from pass to pass")
    samples = sum(order.labels)
    if not samples:
        raise NotApplicable("no loss with one class label for each sample was called in the first pass")
    if samples < limits.min_samples:
        raise Inconclusive(f"needs {limits.min_samples} labelled samples of the first pass, saw {samples}")
    if sum(1 for each in order.labels if each > 0) < 2:
        chance, p_value = _one_class(labels, samples)
    else:
        chance, p_value = _runs(order.labels, order.neighbours_equal)
    seen = order.neighbours_equal / (samples - 1)
    excess = max(0.0, min(1.0, (seen - chance) / (1 - chance))) if chance < 1 else 0.0
    yield Measured(
        excess,
        limits.min_excess,
        f"{percent(min(1.0, seen))} of successive samples have the same label, {percent(chance)} by chance",
    )
    if p_value > limits.max_p_value or excess < limits.min_excess:
        return
    if order.alikeness is None or not math.isfinite(order.alikeness):
        raise Inconclusive("the labels form runs, but it is not known whether successive samples form a time series")
    if order.alikeness < limits.min_alikeness:
        raise NotApplicable(
            f"successive samples of a class resemble each other ({number(order.alikeness)} of the distance of two "
            "random ones), as in a time series: their order means something"
        )
    told = control is not None and not untrue(control.fidelity, limits.max_fidelity)
    harms = control is not None and told and _gain(control) >= limits.min_gain
    yield Finding(
        message=(
            f"{percent(min(1.0, seen))} of successive training samples have the same label, where a shuffled order has "
            f"{percent(chance)}: {order.loader or 'the loader'} goes through a sorted dataset without shuffling"
        ),
        where=order.loader,
        location=order.location,
        measured=excess,
        limit=limits.min_excess,
        confidence=Confidence.CONFIRMED if harms else Confidence.SUSPECTED,
        detail=(
            f"a batch holds {number(order.batch_classes)} of {count(len(order.labels), 'class')} seen on average",
            f"p {_tiny(p_value)} for such runs in a random order of {count(samples, 'sample')}",
        ),
    )


def _by_control(order: SampleOrder, control: OrderControl | None, limits: Limits) -> Judgement:
    """Where no sampler says that the order is that of the data, a control has to say that it does harm."""
    samples = sum(order.labels)
    if samples < limits.min_samples or order.purity is None or order.drift is None:
        raise Inconclusive(f"needs {limits.min_samples} samples of two classes in two dozen batches, saw {samples}")
    seen = (
        f"two samples of a batch have the same label {percent(max(0.0, order.purity))} more often than by chance, and "
        f"{percent(order.drift)} of the labels change from the first third of the batches to the last"
    )
    yield Measured(max(order.purity, order.drift), min(limits.min_excess, limits.min_drift), seen)
    pure = order.purity >= limits.min_excess and _runs(order.labels, order.neighbours_equal)[1] <= limits.max_p_value
    drifts = order.drift >= limits.min_drift and _drift(order) <= limits.max_p_value
    streams = order.pass_drift is not None and order.pass_drift >= limits.min_pass_drift
    if not pure and not drifts and not streams:
        return
    if order.alikeness is None or not math.isfinite(order.alikeness):
        raise Inconclusive(f"{seen}; it is not known whether successive samples form a time series")
    if order.alikeness < limits.min_alikeness:
        raise NotApplicable(
            f"successive samples of a class resemble each other ({number(order.alikeness)} of the distance of two "
            "random ones), as in a time series: their order means something"
        )
    harm = list(_harm(order, control, seen, limits)) if pure or drifts or not streams else []
    yield from harm
    if streams and order.pass_samples >= limits.min_samples and not any(isinstance(each, Finding) for each in harm):
        yield _streams(order, limits)


def _kept_order(order: SampleOrder, control: OrderControl | None, limits: Limits) -> Judgement:
    """A sampler of the script's own, whose batches and their order never change."""
    drift = order.drift or 0.0
    seen = (
        f"{order.sampler} hands out the same batches in the same order in every pass, and {percent(drift)} of the "
        "labels change from its first third to its last"
    )
    yield Measured(drift, limits.min_drift, seen)
    if drift < limits.min_drift or _drift(order) > limits.max_p_value:
        return
    if control is None or not control.whole:
        raise Inconclusive(f"{seen}: only a control with the batches in another order tells whether that harms")
    yield from _harm(order, control, seen, limits)


def _harm(order: SampleOrder, control: OrderControl | None, seen: str, limits: Limits) -> Judgement:
    """What the control says."""
    if control is None or not control.mixed or untrue(control.fidelity, limits.max_fidelity):
        raise Inconclusive(f"{seen}: only a control with mixed batches tells whether that harms")
    natural, mixed = _mean(control.natural), _mean(control.mixed)
    gain = _gain(control)
    ends = f"{number(natural)} after their order, {number(mixed)} after mixed batches"
    yield Measured(gain, limits.min_gain, f"{seen}; loss on all samples: {ends}")
    if gain < (limits.min_slight_gain if control.whole else limits.min_gain) or not math.isfinite(mixed):
        return
    what = "the same batches" if control.whole else f"{count(control.steps, 'batch')} of the same samples"
    yield Finding(
        message=(
            f"the labels come in an order: {seen}. After {what} in "
            f"mixed order the loss on them is {number(mixed)} instead of {number(natural)}"
        ),
        where=order.loader,
        location=order.location,
        measured=gain,
        limit=limits.min_gain,
        severity=Severity.NOTE if gain < limits.min_gain else None,
        confidence=Confidence.CONFIRMED,
        detail=(f"a batch holds {number(order.batch_classes)} of {count(len(order.labels), 'class')} seen on average",),
        fix="Shuffle the batches at every pass, in the sampler's `__iter__`: `random.shuffle(batches)`."
        if control.whole
        else None,
    )


def _gain(control: OrderControl) -> float:
    """Share of the loss on all samples that mixed batches remove."""
    natural, mixed = _mean(control.natural), _mean(control.mixed)
    return 1 - mixed / natural if natural > 0 and math.isfinite(mixed) else 0.0


def _streams(order: SampleOrder, limits: Limits) -> Finding:
    drift = percent(order.pass_drift or 0.0)
    return Finding(
        message=(
            f"the classes of {order.loader or 'the stream'} drift: {drift} of the labels change from the first third "
            f"of a pass to the last, over {count(order.pass_samples, 'sample')}; a shuffle buffer has to be about as "
            "large as the data, or the shards mixed"
        ),
        where=order.loader,
        location=order.location,
        measured=order.pass_drift,
        limit=limits.min_pass_drift,
        detail=(f"a batch holds {number(order.batch_classes)} of {count(len(order.labels), 'class')} seen on average",),
    )


def _drift(order: SampleOrder) -> float:
    """p-value of the two thirds having the same classes."""
    from scipy.stats import chi2  # type: ignore[import-untyped]

    return float(chi2.sf(order.drift_statistic, order.drift_freedom)) if order.drift_freedom > 0 else 1.0


def _mean(losses: Sequence[float]) -> float:
    return sum(losses) / len(losses) if losses else math.inf


def _one_class(labels: Labels | None, samples: int) -> tuple[float, float]:
    """The same where all samples seen have one label: that says something if the dataset is known to hold others."""
    counts = [each for each in labels.counts if each > 0] if labels is not None and labels.complete else []
    if len(counts) < 2:
        raise Inconclusive(f"all {samples} samples seen of the first pass have the same label")
    total = sum(counts)
    return sum((each / total) ** 2 for each in counts), (max(counts) / total) ** samples


def _runs(counts: Sequence[int], equal: int) -> tuple[float, float]:
    """(probability that two neighbours of a random order are equal, one-sided p-value of as many equal neighbours).

    The number of equal neighbours on a path of n places: its mean and variance under all permutations of the labels.
    """
    n = sum(counts)
    two = _falling(counts, 2) / (n * (n - 1))
    mean = (n - 1) * two
    if n < 4:
        return two, 1.0
    three = _falling(counts, 3) / (n * (n - 1) * (n - 2))
    pairs = _falling(counts, 2)
    within = sum((c * (c - 1)) ** 2 for c in counts)
    apart = (pairs * pairs - within + _falling(counts, 4)) / (n * (n - 1) * (n - 2) * (n - 3))
    disjoint = (n - 1) * (n - 2) / 2 - (n - 2)  # pairs of edges without a common place
    variance = mean + 2 * ((n - 2) * three + disjoint * apart) - mean * mean
    if variance <= 0:
        return two, 1.0
    return two, 0.5 * math.erfc((equal - mean) / math.sqrt(2 * variance))


def _tiny(p_value: float) -> str:
    return f"= {number(p_value)}" if p_value > 1e-300 else "< 1e-300"


def _falling(counts: Sequence[int], order: int) -> int:
    """Sum of c (c - 1) ... over the counts: ordered choices of so many samples of one class."""
    return sum(math.perm(c, order) for c in counts if c > 0)
