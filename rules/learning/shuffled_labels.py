"""FIT107: the labels are no easier to learn than the same labels shuffled."""

from __future__ import annotations

import math
import statistics

from pydantic import Field

from auditor.declare import Confidence, Finding, Inconclusive, Judgement, Measured, Missing, Options, Severity, rule
from auditor.evidence import Augmentation, LabelControl, OwnOrders, PairedLoaders, Source, TargetBlock, Unmirrored
from auditor.paired import untrue
from auditor.series import middle

from ..symptoms import NOT_LEARNING
from ..words import count, number, percent

HUGE = 1e100  # beyond it, means of losses mean nothing


class Limits(Options):
    min_fall: float = Field(
        0.2, gt=0, lt=1, description="Share of the first loss that is gone, on average over the arm, before it counts."
    )
    max_width: float = Field(
        0.4, gt=0, lt=1, description="Widest interval of the advantage, as a share of that fall, that decides."
    )
    alpha: float = Field(0.05, gt=0, lt=0.5, description="Error rate of the interval of the advantage.")
    min_shuffles: int = Field(3, ge=2, description="Arms with shuffled labels.")
    min_samples: int = Field(96, ge=16, description="Samples that are learned by heart.")
    min_torn: int = Field(
        3, ge=1, description="Draws of one sample with only one of image and mask flipped or turned that are proof."
    )
    min_paired: int = Field(32, ge=8, description="Samples that two loaders have to have drawn, to be compared.")
    max_apart: float = Field(
        0.1, gt=0, lt=1, description="Largest share of samples whose target is of another sample, of two loaders."
    )
    min_sided: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="Rank correlation, at each side of its median, of how far from there a target lies with how "
        "asymmetric the image is, from which the target knows sides.",
    )
    min_sided_samples: int = Field(48, ge=16, description="Samples at each side of that median.")
    min_mispaired: int = Field(
        3, ge=1, description="Rows of a collated batch with the label of another sample that are proof."
    )
    min_foretold: float = Field(
        0.4, gt=0, lt=1, description="Correlation of simply foretold targets with true ones outside of a block of rows."
    )
    max_foretold: float = Field(0.2, gt=0, lt=1, description="Share of that correlation that is left in the block.")
    min_block: int = Field(100, ge=20, description="Rows of such a block.")
    max_unlike: float = Field(
        0.15, gt=0, lt=1, description="Largest distance between the distributions of targets in the block and outside."
    )
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")


@rule(
    "FIT107",
    "shuffled-labels",
    severity=Severity.WARNING,
    explains=tuple(name for name in NOT_LEARNING if name != "shuffled-labels"),
    fix="""Check by eye that inputs and labels belong together: `for i in range(5): print(names[i], labels[i])`.
    Sort both by the same key, and shuffle both by one permutation: `order = torch.randperm(len(x))`.""",
    references=(
        "https://arxiv.org/abs/1611.03530",
        "https://arxiv.org/abs/1706.05394",
        "https://karpathy.github.io/2019/04/25/recipe/",
    ),
)
def shuffled_labels(
    control: LabelControl | None,
    augmentation: Augmentation | None,
    paired: PairedLoaders | None,
    source: Source | None,
    block: TargetBlock | None,
    limits: Limits,
) -> Judgement:
    """The labels do not belong to the inputs they are fed with.

    ## What it does

    Where the loss has not come below what the labels' shares alone give, it lets the loop learn a few batches by heart
    from the same weights: once with their own labels, and several times with the labels of each batch shuffled.

    ## Why is it bad?

    Two lists sorted by different keys, a shuffle of one of them, an index that is off by one: the network then learns
    noise. The training loss falls, epoch by epoch, as it learns the samples by heart; on new data it stays at guessing.

    ## How it is measured

    By experiment, with shuffles of the program's own labels as its control: networks fit labels that follow from their
    inputs faster than random ones. The rule fails when the samples were learned (over the arm, the mean loss is
    `min-fall` below the first one), and the advantage of the true labels in that mean has an interval (Student's t over
    the shuffled arms, error rate `alpha`) that holds zero and is narrower than `max-width` of that fall. A wider one,
    or too little learned, is inconclusive. In 15 healthy programs the true labels had between 17 and 97 % of the fall
    as their advantage.

    And exactly, of a collate function of your own: it is given two dozen samples together and each alone. Where every
    row of an input is, up to padding, one certain sample, and the labels are those of the samples in another order,
    `min-mispaired` rows with another sample's label are proof. And exactly as well, for images with a target for each
    place: samples are drawn several times, and of two draws only one of image and mask is flipped or turned, the other
    one bit for bit as it was, `min-torn` times or more. Those that look the same when they are turned do not count.
    Exactly, too, of two loaders whose batches are taken together, where the model is called with tensors of the one
    alone and the loss compares its outputs, value by value, with those of the other, and both data sets are of one
    size: the samplers' own numbers are compared, of at least `min-paired` samples, and no more than `max-apart` of them
    may differ.
    Where draws of one sample show that its image is mirrored (one is the other one flipped, but for brightness and
    contrast) and nothing else of it ever changes with that, it is asked whether a continuous target knows sides: a
    coordinate, a box, a steering angle. For such a one the images at its median are symmetric, and the further a value
    lies from there, the more asymmetric they are. The rule fails when that holds among those above the median and among
    those below, each by a rank correlation of `min-sided` over `min-sided-samples` samples, for two of three
    measures of asymmetry. Which of the draws are the mirrored ones need not be known for that.
    Of a regression on a table whose rows are known in their order (a `TensorDataset`, or all rows at once) it is asked
    which rows a linear regression on simple statistics of the inputs foretells that it was not fitted on. The rule
    fails where it does so outside of one block of at least `min-block` rows (correlation with the true targets of
    `min-foretold`), and in the block with no more than `max-foretold` of that correlation, neither fitted outside nor
    on the block itself - although targets, and what is foretold from the inputs, are spread there as everywhere
    (`max-unlike`): a second table that was joined by another key, a half that was sorted.
    From the source: inputs and targets of one scope that are used together - in one call, as a pair, by one index, or
    appended to two lists side by side - each shuffled by a call of its own (`shuffle(x)`, `shuffle(y)`), with no seed
    set in between.

    ## When it may be wrong

    - Labels that follow from the inputs in a way that a few hundred samples do not show (parity, rare words, many
      classes of few samples) are as hard to fit as random ones.
    - Where a few samples cannot be learned by heart at all, something else is wrong, and it is inconclusive.
    - Of image and mask, the two must differ in kind (values, channels): two views of one image are turned apart on
      purpose. The source alone never confirms: whether those lines run, it does not tell.
    - A block of rows may hold nothing but noise for another reason: a sensor that failed, rows that were made up.
    - A target that mirroring leaves alone (an age, a size) goes with an asymmetry in one direction at most, not up to
      both sides. Of classes nothing is said: their order may mean nothing.
    - It is not asked once the loss is below that of a constant answer: then the labels have been of use. Nor where
      simple statistics of the inputs (averages, squares, products of neighbours, counts of words and ids) differ
      between the classes by more than permuted labels give: the labels belong to their inputs then.

    ## How to fix

    ```python
    names = sorted(images)                       # scan_10 comes before scan_2
    pairs = [(images[name], labels[name]) for name in names]    # one key for both
    ```
    """
    if augmentation is not None and augmentation.mispaired >= limits.min_mispaired:
        yield Measured(float(augmentation.mispaired), 0.0, _mispaired_text(augmentation))
        yield _mispaired(augmentation)
        return
    if augmentation is not None and augmentation.torn >= limits.min_torn:
        yield Measured(float(augmentation.torn), 0.0, _torn_text(augmentation))
        yield _torn(augmentation)
        return
    if paired is not None and _met_others(paired, limits):
        yield Measured(paired.apart / paired.compared, limits.max_apart, _paired_text(paired))
        yield _paired(paired, limits)
        return
    sided = augmentation.unmirrored if augmentation is not None else None
    if augmentation is not None and sided is not None and _knows_sides(sided, limits):
        yield Measured(sided.correlation, limits.min_sided, _sided_text(sided))
        yield _unmirrored(augmentation, sided, limits)
        return
    if source is not None and source.own_orders:
        found = source.own_orders[0]
        yield Measured(float(len(source.own_orders)), 0.0, f"{found.inputs} and {found.targets} are shuffled apart")
        yield from map(_apart, source.own_orders)
        return
    if block is not None and _foreign(block, limits):
        yield Measured(block.inside, limits.max_foretold * block.outside, _block_text(block))
        yield _block(block, limits)
        return
    if control is None:
        raise Missing("label_control")
    if untrue(control.fidelity, limits.max_fidelity):
        raise Inconclusive(f"the replay differs from the observed run by {percent(control.fidelity or 0.0)}")
    ends = [_mean(arm) for arm in control.shuffled]
    real, first = _mean(control.real), middle(control.real[:3])
    if len(ends) < limits.min_shuffles or control.samples < limits.min_samples:
        raise Inconclusive(
            f"needs {limits.min_shuffles} shuffles of {limits.min_samples} samples, "
            f"saw {len(ends)} of {control.samples}"
        )
    if not all(math.isfinite(value) and abs(value) < HUGE for value in (real, first, *ends)) or not first > 0:
        raise Inconclusive("the losses are not all finite and positive")
    chance = statistics.fmean(ends)
    fall, advantage = first - real, chance - real
    half = _half_width(ends, limits.alpha)
    text = (
        f"over {count(len(control.real), 'step')} on {count(control.samples, 'sample')} the mean loss is "
        f"{number(real)} with their labels and {number(chance)} with shuffled ones, from {number(first)}"
    )
    yield Measured(advantage, half, text)
    if advantage > half:
        return
    if fall < limits.min_fall * first:
        raise Inconclusive(f"{text}: too little was learned to tell them apart")
    if 2 * half > limits.max_width * fall or advantage < -half:
        raise Inconclusive(f"{text}; the shuffles differ by {number(half)} among themselves")
    yield Finding(
        message=f"the labels are no easier to learn than shuffled ones: {text}",
        location=control.location,
        measured=advantage,
        limit=half,
        confidence=Confidence.SUSPECTED,
        detail=(
            f"advantage of the true labels: {number(advantage)} with an interval of plus or minus {number(half)}",
            f"in training the loss ended at {number(control.observed)}, where a constant answer has "
            f"{number(control.level)}",
        ),
    )


def _mispaired_text(augmentation: Augmentation) -> str:
    return (
        f"{augmentation.mispaired} of {count(augmentation.collated, 'row')} that the collate function makes have "
        "another sample's label or length beside them"
    )


def _mispaired(augmentation: Augmentation) -> Finding:
    return Finding(
        message=f"inputs and labels are collated in different orders: {_mispaired_text(augmentation)}",
        where=augmentation.loader,
        location=augmentation.location,
        measured=float(augmentation.mispaired),
        limit=0.0,
        severity=Severity.ERROR,
        since=0,  # the data are there before the first step
        confidence=Confidence.CONFIRMED,
        detail=("each sample was also collated alone, and is known in the batch by that",),
        fix="Sort the samples first, and take everything from them in that order: "
        "`samples.sort(key=lambda s: len(s.x), reverse=True)`.",
    )


def _met_others(paired: PairedLoaders, limits: Limits) -> bool:
    return paired.compared >= limits.min_paired and paired.apart > limits.max_apart * paired.compared


def _paired_text(paired: PairedLoaders) -> str:
    return (
        f"in the first pass {paired.apart} of {count(paired.compared, 'sample')} of {paired.inputs} met a target of "
        f"another number from {paired.targets}"
    )


def _paired(paired: PairedLoaders, limits: Limits) -> Finding:
    return Finding(
        message=(
            f"inputs come from {paired.inputs} and what {paired.function} compares their outputs with from "
            f"{paired.targets}, and each draws an order of its own: {_paired_text(paired)}"
        ),
        where=paired.targets,
        location=paired.location,
        measured=paired.apart / paired.compared,
        limit=limits.max_apart,
        since=0,
        confidence=Confidence.CONFIRMED,
        fix="Draw both from one data set: `DataLoader(StackDataset(inputs, targets), shuffle=True)`.",
    )


def _foreign(block: TargetBlock, limits: Limits) -> bool:
    left = limits.max_foretold * block.outside
    return (
        block.last - block.first >= limits.min_block
        and block.outside >= limits.min_foretold
        and block.inside <= left
        and block.own <= left
        and block.apart <= limits.max_unlike
    )


def _block_text(block: TargetBlock) -> str:
    return (
        f"of rows {block.first} to {block.last - 1} of {block.rows}, the targets have nothing to do with the inputs: "
        f"foretold by a linear regression they correlate by {number(block.inside)} with the true ones "
        f"({number(block.own)} when it is fitted on these rows), those of the other rows by {number(block.outside)}"
    )


def _block(block: TargetBlock, limits: Limits) -> Finding:
    return Finding(
        message=f"{_block_text(block)}, and both are spread as they are there",
        location=block.location,
        measured=block.inside,
        limit=limits.max_foretold * block.outside,
        since=0,
        confidence=Confidence.SUSPECTED,
        fix="Look at where these rows come from, and join inputs and targets by one key there, with both in its order.",
    )


def _torn_text(augmentation: Augmentation) -> str:
    return (
        f"in {augmentation.torn} of {count(augmentation.turned, 'pair')} of draws of the same sample that differ by a "
        "flip or a turn, only one of image and mask is turned"
    )


def _apart(found: OwnOrders) -> Finding:
    return Finding(
        message=(
            f"{found.inputs} (line {found.first.line}) and {found.targets} are shuffled by two separate calls: each "
            "gets an order of its own, and rows and labels do not belong together any more"
        ),
        where=found.targets,
        location=found.location,
        measured=1.0,
        limit=0.0,
        since=0,
        confidence=Confidence.SUSPECTED,
    )


def _torn(augmentation: Augmentation) -> Finding:
    return Finding(
        message=f"image and mask are augmented apart: {_torn_text(augmentation)}",
        where=augmentation.loader,
        location=augmentation.location,
        measured=float(augmentation.torn),
        limit=0.0,
        severity=Severity.ERROR,
        since=0,
        confidence=Confidence.CONFIRMED,
        fix="Draw once for both: decide on the flip first, then apply it to the image and to its mask.",
    )


def _knows_sides(sided: Unmirrored, limits: Limits) -> bool:
    return (
        sided.pairs >= limits.min_torn
        and sided.samples >= limits.min_sided_samples
        and sided.correlation >= limits.min_sided
    )


def _sided_text(sided: Unmirrored) -> str:
    return (
        f"{count(sided.pairs, 'pair')} of draws of one sample are mirrored ({sided.direction}), and the targets beside "
        f"them never change; yet value {sided.value} of the targets tells sides: the further it lies from its median, "
        f"to either side, the more asymmetric is the image (rank correlation {number(sided.correlation)})"
    )


def _unmirrored(augmentation: Augmentation, sided: Unmirrored, limits: Limits) -> Finding:
    upright = sided.direction == "upside down"
    return Finding(
        message=f"images are mirrored and their targets are not: {_sided_text(sided)}",
        where=augmentation.loader,
        location=augmentation.location,
        measured=sided.correlation,
        limit=limits.min_sided,
        since=0,
        confidence=Confidence.SUSPECTED,
        fix="Mirror the targets with the image: "
        + ("`y = height - 1 - y`" if upright else "`x = width - 1 - x`")
        + " for coordinates in pixels, `1 - x` for shares of the side, `-x` for angles and coordinates about the "
        "middle; exchange left and right points.",
    )


def _mean(losses: tuple[float, ...]) -> float:
    """Over the whole trajectory: the faster it falls, the lower."""
    return sum(losses) / len(losses) if losses else math.nan


def _half_width(ends: list[float], alpha: float) -> float:
    """Half the prediction interval of one more arm, from the shuffled ones."""
    from scipy.stats import t  # type: ignore[import-untyped]

    n = len(ends)
    return float(t.ppf(1 - alpha / 2, n - 1)) * statistics.stdev(ends) * math.sqrt(1 + 1 / n)
