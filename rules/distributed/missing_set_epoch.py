"""DST102: a DistributedSampler draws the same order in every epoch."""

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
from auditor.evidence import SampleOrder

from ..words import count


class Limits(Options):
    min_samples: int = Field(16, ge=8, description="Samples at the start of two passes that have to be compared.")


@rule(
    "DST102",
    "missing-set-epoch",
    severity=Severity.WARNING,
    fix="Tell the sampler the epoch before each pass: `loader.sampler.set_epoch(epoch)`.",
    references=(
        "https://docs.pytorch.org/docs/stable/data.html#torch.utils.data.distributed.DistributedSampler",
        "https://github.com/pytorch/pytorch/issues/31232",
    ),
)
def missing_set_epoch(order: SampleOrder, limits: Limits) -> Judgement:
    """A DistributedSampler shuffles once and then repeats its order in every epoch.

    ## What it does

    Compares the order in which a DistributedSampler hands out its samples in two passes over the loader.

    ## Why is it bad?

    DistributedSampler shuffles with `seed + epoch`, and learns the epoch only from `set_epoch()`. Without it every
    epoch has the same batches in the same order, and every rank keeps the same part of the data for the whole
    training. What shuffling is for, that errors of single batches average out, does not happen.

    ## How it is measured

    By identity: the indices that the sampler draws for the first two passes. It fails when both begin with the same
    samples in the same order, over `min-samples` samples or more. The probe cuts the first pass short, so that a
    second one is seen.

    ## When it may be wrong

    - A sampler that is told not to shuffle (`shuffle=False`) is meant to keep its order, and is not judged.
    - A program that wants the same order in every epoch, for a comparison say, has to waive this.
    - Frameworks that call `set_epoch()` themselves pass, because the order is what counts.

    ## How to fix

    ```python
    sampler = torch.utils.data.DistributedSampler(dataset)
    loader = DataLoader(dataset, batch_size=64, sampler=sampler)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for x, y in loader:
            train_step(x, y)
    ```
    """
    if not order.distributed:
        raise NotApplicable("the training loader has no DistributedSampler")
    if not order.shuffles:
        raise NotApplicable("the DistributedSampler is told not to shuffle")
    if order.passes < 2 or order.compared < limits.min_samples:
        raise Inconclusive(
            f"needs {limits.min_samples} samples of two passes over the loader, saw {order.compared} in "
            f"{count(order.passes, 'pass')}"
        )
    same = float(order.repeated)
    state = "in the same order" if order.repeated else "in another order"
    yield Measured(same, 0.0, f"the second pass draws its first {count(order.compared, 'sample')} {state}")
    if order.repeated:
        yield Finding(
            message=(
                f"the DistributedSampler draws the same {count(order.compared, 'sample')} in the same order in two "
                "passes over the loader: it is not told the epoch"
            ),
            where=order.loader,
            location=order.location,
            measured=same,
            limit=0.0,
            confidence=Confidence.CONFIRMED,
        )
