"""DAT302: random augmentation draws the same numbers again, in every worker or in every epoch."""

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
from auditor.evidence import Augmentation

from ..symptoms import NOT_LEARNING
from ..words import count, number


class Limits(Options):
    min_items: int = Field(8, ge=4, description="Random samples that have to be compared.")
    max_p_value: float = Field(
        1e-4, gt=0, lt=0.1, description="Largest probability that independent draws of all of them are equal."
    )


@rule(
    "DAT302",
    "duplicated-augmentation",
    severity=Severity.WARNING,
    explains=NOT_LEARNING,
    fix="""Draw from a generator that every worker and epoch seeds anew: use torch's or numpy's global one in
    `__getitem__`, as in `torch.rand(1)`, or build `np.random.default_rng(torch.initial_seed() % 2**32)` there.""",
    references=(
        "https://docs.pytorch.org/docs/stable/data.html#randomness-in-multi-process-data-loading",
        "https://docs.pytorch.org/docs/stable/notes/randomness.html#dataloader",
        "https://github.com/pytorch/pytorch/issues/5059",
    ),
)
def duplicated_augmentation(augmentation: Augmentation, limits: Limits) -> Judgement:
    """Augmentation that is meant to be random repeats itself between workers or epochs.

    ## What it does

    Draws the same training samples several times: in the main process, by two of the loader's workers, and in two
    epochs, and compares what comes out.

    ## Why is it bad?

    Augmentation multiplies a small dataset by showing each sample in ever new variations. If every epoch starts with
    the same random numbers, there is only one variation of each sample, and the network can learn it by heart. If all
    workers have the same numbers, batches that lie side by side are distorted in the same way.

    ## How it is measured

    By experiment, with the loader's own dataset, workers, `worker_init_fn` and generator. Samples that come out
    different when they are drawn several times in the main process are random; without any, there is nothing to
    judge. It fails when at least `min-items` random samples were compared and every single one came out alike

    - from two workers of one epoch,
    - from the workers of two epochs, or
    - in two passes that your own loop took over the loader,

    while independent draws would do so with a probability below `max-p-value`, by how often draws in the main process
    are equal. The cause is usually a generator object that is stored in the dataset and copied into every worker, a
    `worker_init_fn` that seeds with a constant or with the worker's number alone, or a seed that is set again in every
    epoch. Current PyTorch seeds the global generators of torch, numpy and random in every worker by itself.

    ## When it may be wrong

    - Augmentation that is a fixed function of the sample's index, and caches, give the same sample every time: they are
      not random, and not judged. The exception is a dataset that keeps a switch or transform for augmentation
      (`self.augment = True`), or the number of the epoch, and one stored sample for each index, and seeds a generator
      each time that it is asked for a sample, where another seed gives another input with the same label, and another
      number of the epoch does not.
    - A stored generator with a shuffling loader repeats the order of its distortions, and meets other samples each
      time: the harm is smaller then, but augmentations still are not independent.
    - Repeating all epochs on purpose, in a test of reproducibility, has to be waived.

    ## How to fix

    ```python
    class Crops(torch.utils.data.Dataset):
        def __getitem__(self, index):
            shift = int(torch.randint(-4, 5, ()))  # torch's generator: another seed in every worker and epoch
            return self.images[index].roll(shift, -1), self.labels[index]
    ```
    """
    if augmentation.items < limits.min_items:
        raise Inconclusive(f"needs {limits.min_items} samples drawn again, has {augmentation.items}")
    if not augmentation.random and augmentation.seeded >= limits.min_items and _same_in_both_passes(augmentation):
        share = augmentation.seeded / augmentation.items
        yield Measured(
            share, 0.0, f"{augmentation.seeded} of {augmentation.items} samples get their own seed each time"
        )
        yield _seeded(augmentation)
        return
    if not augmentation.random:
        raise NotApplicable("the dataset gives the same sample each time it is asked for the same index")
    looks = [
        ("two workers of one epoch", augmentation.worker_equal, augmentation.worker_items),
        ("the workers of two epochs", augmentation.epoch_equal, augmentation.epoch_items),
        ("two passes of the loop", augmentation.delivered_equal, augmentation.delivered_items),
    ]
    compared = [look for look in looks if look[2] >= limits.min_items]
    if not compared:
        raise Inconclusive(
            f"needs {limits.min_items} random samples drawn by two workers or in two epochs: the loader has "
            f"{count(augmentation.workers, 'worker')}, and the loop met {augmentation.delivered_items} twice"
        )
    shares = [equal / items for _, equal, items in compared]
    repeated = [look for look in compared if look[1] >= look[2]]
    yield Measured(
        max(shares), 1.0, "; ".join(f"{equal} of {items} alike in {name}" for name, equal, items in compared)
    )
    chance = min(1.0, max(0.0, augmentation.chance))
    sure = [look for look in repeated if _p_value(chance, look[2]) <= limits.max_p_value]
    if repeated and not sure:
        raise Inconclusive("independent draws of these samples are often equal by chance, so equal ones tell nothing")
    if sure:
        yield _finding(augmentation, sure, chance)


def _same_in_both_passes(augmentation: Augmentation) -> bool:
    return augmentation.delivered_equal >= augmentation.delivered_items


def _seeded(augmentation: Augmentation) -> Finding:
    return Finding(
        message=(
            f"{augmentation.loader or 'the loader'} seeds the augmentation of every sample anew when it is asked for: "
            f"{augmentation.seeded} of {augmentation.items} come out alike each time, and otherwise with another seed"
        ),
        where=augmentation.loader,
        location=augmentation.location,
        measured=1.0,
        limit=1.0,
        confidence=Confidence.CONFIRMED,
        detail=(
            "the dataset has a switch or a transform for augmentation, or the number of the epoch, and no seed depends "
            "on an epoch",
        ),
        fix="""Take the epoch into the seed, `default_rng([seed, self.epoch, index])`; or build the generator once, in
        `__init__`, or draw from the global one: `torch.rand(1)`. Workers need seeds
        of their own then.""",
    )


def _p_value(chance: float, items: int) -> float:
    """That so many independent draws are all equal; the chance is itself an estimate, hence the least of 2 %."""
    return float(max(chance, 0.02) ** items)


def _finding(augmentation: Augmentation, sure: list[tuple[str, int, int]], chance: float) -> Finding:
    name, _, items = sure[0]
    others = [f"all {other[2]} came out alike in {other[0]} too" for other in sure[1:]]
    return Finding(
        message=(
            f"all {items} random samples that were drawn again came out alike in {name}, though draws in the main "
            f"process differ: the augmentation of {augmentation.loader or 'the loader'} repeats itself"
        ),
        where=augmentation.loader,
        location=augmentation.location,
        measured=1.0,
        limit=1.0,
        confidence=Confidence.CONFIRMED,
        detail=(*others, f"independent draws of one sample are equal in {number(100 * chance)} % of the cases"),
    )
