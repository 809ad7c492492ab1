"""LEK102: held-out samples have near-duplicates among the training samples."""

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
from auditor.evidence import NearDuplicates, Remedy, RemedyKind

from ..words import count, number, percent

FEW = 5  # twins that are needed in any case


class Limits(Options):
    min_share: float = Field(
        0.05, gt=0, lt=1, description="Smallest share of held-out samples with a twin in training to report."
    )
    max_p_value: float = Field(
        1e-6, gt=0, lt=1, description="Largest p-value of the test that there are more twins than by chance."
    )
    chance_margin: float = Field(
        5.0, ge=1, description="Times the computed rate of chance twins that is granted to chance."
    )
    min_compared: int = Field(50, ge=10, description="Held-out samples that have to be compared.")


@rule(
    "LEK102",
    "near-duplicate-leakage",
    severity=Severity.WARNING,
    fix="""Split first and augment after it: `train_set, val_set = random_split(originals, [0.8, 0.2])`, then apply the
    transform to `train_set` only; keep all versions of one original on one side.""",
    references=(
        "https://arxiv.org/abs/1902.00423",
        "https://papers.nips.cc/paper/2577-maximum-likelihood-estimation-of-intrinsic-dimension",
        "https://arxiv.org/abs/2207.07048",
    ),
    remedies=(RemedyKind.DROP_TWINS,),
)
def near_duplicate_leakage(near: NearDuplicates, limits: Limits) -> Judgement:
    """Held-out samples have near-duplicates among the training samples.

    ## What it does

    Looks for the nearest training sample of each held-out sample, and asks whether it is nearer than chance allows.

    ## Why is it bad?

    Copies that differ by noise, brightness, a crop or compression are recognised, not predicted. They get to both
    sides when data are augmented before the split, or when a collection holds several versions of one original. The
    held-out score then measures memory, and no comparison of exact contents finds it.

    ## How it is measured

    Images are brought to a small grey, standardized picture, vectors are standardized per feature. For each held-out
    sample the distance to its nearest training sample is related to that to a farther one, the 20th. How
    often chance makes that ratio small follows from the dimension of the data, which is estimated from the 10th to the
    20th neighbour, where copies do not disturb. The rule fails when the share of such twins is at least `min-share`,
    and larger than `chance-margin` times the rate of chance by a binomial test with a p-value of at most `max-p-value`.
    Samples that are equal bit for bit are left to test-set-leakage. Held-out rows that no loader hands out are known by
    their name in the call (`model(x_test)`), and compared with the data set of the training loader.

    ## When it may be wrong

    - Frames of a video and overlapping windows of a series have neighbours that are alike: recognised by their order
      in the data set, and not judged. So are tokens, text, discrete tables and samples of a few numbers.
    - Samples of classes with few members are left out, because such a class is a cluster by itself. Small clusters that
      no label tells (many samples of one machine or person) look like near-duplicates, and often are: see
      group-leakage.
    - Data of few dimensions, like curves with two parameters, have twins by chance: this is computed, and passes.
    - Mirrored and strongly cropped copies are not found. Large data sets are searched in part.

    ## How to fix

    ```python
    originals = load_images()
    order = torch.randperm(len(originals), generator=torch.Generator().manual_seed(0)).tolist()
    train_originals, val_originals = [originals[i] for i in order[200:]], [originals[i] for i in order[:200]]
    train_set = augment(train_originals)   # after the split, and the training part only
    ```
    """
    if near.ordered:
        raise NotApplicable(
            "samples that follow each other in the data set are alike, as frames of a video and windows of a series are"
        )
    if near.compared < limits.min_compared:
        raise Inconclusive(f"needs {limits.min_compared} held-out samples to compare, saw {near.compared}")
    share = min(1.0, near.twins / near.compared)
    chance = near.chance if math.isfinite(near.chance) and near.chance >= 0 else 1.0
    granted = min(1.0, limits.chance_margin * chance)
    yield Measured(
        share,
        max(limits.min_share, granted),
        f"{near.twins} of {count(near.compared, 'sample')} of {near.held_out} are nearer to a training sample than "
        f"{number(near.ratio_limit)} times the distance to their {near.neighbours}th one; chance makes "
        f"{percent(chance)}",
    )
    if share < limits.min_share or near.twins < FEW or granted >= 1:
        return
    p_value = _p_value(min(near.twins, near.compared), near.compared, granted)
    if p_value > limits.max_p_value:
        return
    detail = [
        f"the data have about {number(near.dimension)} dimensions, so chance would make {percent(chance)} (p = "
        f"{number(p_value)})",
        f"within the training set {percent(near.within_twins)} have such a twin",
    ]
    if near.labels_agree is not None:
        detail.append(f"{percent(near.labels_agree)} of the twins have the same label")
    if near.searched < near.training_samples:
        detail.append(f"{near.searched} of {count(near.training_samples, 'training sample')} were searched")
    detail += [
        f"training sample {pair.training_index} and held-out sample {pair.held_out_index}: ratio {number(pair.ratio)}"
        for pair in near.pairs[:3]
    ]
    yield Finding(
        message=(
            f"{near.twins} of {count(near.compared, 'compared sample')} of {near.held_out} ({percent(share)}) have a "
            f"near-duplicate in {near.training}, nearer than {number(near.ratio_limit)} times the distance to their "
            f"{near.neighbours}th neighbour"
        ),
        where=near.held_out,
        location=near.location,
        measured=share,
        limit=max(limits.min_share, granted),
        confidence=Confidence.SUSPECTED,
        detail=tuple(detail),
        remedies=(Remedy(kind=RemedyKind.DROP_TWINS, subject=near.held_out),),
    )


def _p_value(twins: int, compared: int, chance: float) -> float:
    from scipy.stats import binom  # type: ignore[import-untyped]

    return float(binom.sf(twins - 1, compared, chance))
