"""DST101: ranks that train together are fed the same samples."""

from __future__ import annotations

from itertools import combinations

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
from auditor.evidence import RankPrint, Ranks

from ..words import percent


class Limits(Options):
    max_shared_share: float = Field(
        0.01, ge=0, lt=1, description="Largest share of a rank's samples that another rank may see in the same pass."
    )
    max_same_step_share: float = Field(
        0.5, gt=0, lt=1, description="Share of samples common to two ranks in one and the same step that is an error."
    )
    min_samples: int = Field(
        256, ge=1, description="Size of the dataset below which every rank may well go through all of it."
    )


@rule(
    "DST101",
    "missing-distributed-sampler",
    severity=Severity.ERROR,
    fix="""Give every rank its own part: `sampler = DistributedSampler(dataset)` and
    `DataLoader(dataset, sampler=sampler)`, without `shuffle=True`.""",
    references=(
        "https://docs.pytorch.org/docs/stable/data.html#torch.utils.data.distributed.DistributedSampler",
        "https://docs.pytorch.org/tutorials/beginner/ddp_series_multigpu.html",
    ),
)
def missing_distributed_sampler(ranks: Ranks, limits: Limits) -> Judgement:
    """Two ranks of a distributed run are fed the same samples.

    ## What it does

    Lays the samples that the ranks of one run were fed side by side, step by step, over their first pass.

    ## Why is it bad?

    Ranks share the work: each takes its own part of the data, and the gradients are averaged. Ranks that are fed the
    same batches compute the same gradient, so a second device doubles the cost and changes nothing. Ranks that shuffle
    the whole dataset each for itself go through it once per rank in what is called one epoch, which stretches every
    schedule that counts epochs.

    ## How it is measured

    By identity. Run the audit under the launcher, `torchrun --nproc-per-node 2 -m auditor run train.py`: each rank is
    followed by an audit of its own, which notes the indices that its sampler draws, and that of rank 0 compares them.
    Indices mean the same sample where the ranks hold the same dataset (class, length and some items read with fixed
    random numbers are equal); samples of a stream are compared by content. It fails when

    - ranks have more than `max-same-step-share` of their samples of the same step in common, or
    - more than `max-shared-share` of a rank's samples are seen by another one in the same pass, the few that a
      DistributedSampler repeats to even out the parts not counted. If the samplers cover the whole dataset and shuffle
      each for itself, that is a warning.

    ## When it may be wrong

    - Sets of fewer than `min-samples` samples are often replicated on purpose, and are not judged.
    - Ranks that read shards of their own have different datasets, and pass.
    - Sampling with replacement meets the same sample on several ranks by chance; only common batches count there.
    - Ranks that form a group (tensor or pipeline parallelism) have to be fed the same batches: waive it in place.

    ## How to fix

    ```python
    sampler = torch.utils.data.DistributedSampler(dataset, shuffle=True)
    loader = DataLoader(dataset, batch_size=64, sampler=sampler)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
    ```
    """
    prints = [each for each in ranks.prints if each.batches]
    if ranks.world_size < 2:
        raise NotApplicable("the script trains in one process")
    if any(each.parallel == "sharded" for each in prints):
        raise Inconclusive("the model is sharded: ranks that hold parts of one copy have to be fed the same samples")
    if len(prints) < 2:
        raise Inconclusive(
            f"needs the samples of two ranks, has those of {len(prints)} of {ranks.world_size}: start the audit under "
            "the launcher, one for each rank, and read the report of rank 0"
        )
    pairs = [(a, b) for a, b in combinations(prints, 2) if _comparable(a, b)]
    if not pairs:
        if all(a.dataset and b.dataset and a.dataset != b.dataset for a, b in combinations(prints, 2)):
            yield Measured(0.0, limits.max_shared_share, "every rank has a dataset of its own")
            return
        raise Inconclusive("it is not known whether the ranks hold the same dataset")
    smallest = min((each.samples for each in prints if each.samples is not None), default=None)
    if smallest is not None and smallest < limits.min_samples:
        raise NotApplicable(f"a dataset of {smallest} samples may well be replicated")
    same_step = max(pairs, key=_same_step)
    shared = max(pairs, key=lambda pair: _shared(pair, ranks.world_size))
    if _same_step(same_step) > limits.max_same_step_share:
        yield Measured(_same_step(same_step), limits.max_same_step_share, "ranks are fed the same batches")
        yield _same_batches(same_step, limits)
        return
    share = _shared(shared, ranks.world_size)
    yield Measured(
        share,
        limits.max_shared_share,
        f"two ranks have {percent(share)} of their samples in common, in no common order",
    )
    if share > limits.max_shared_share and not any(each.replacement for each in shared):
        yield _overlap(shared, share, limits)


def _comparable(a: RankPrint, b: RankPrint) -> bool:
    if a.by != b.by:
        return False
    return a.by == "content" or bool(a.dataset and a.dataset == b.dataset)


def _same_step(pair: tuple[RankPrint, RankPrint]) -> float:
    """Share of the first one's samples that the other one had in the same step."""
    a, b = pair
    common = total = 0
    for mine, its in zip(a.batches, b.batches, strict=False):
        total += len(mine)
        common += len(set(mine) & set(its))
    return common / total if total else 0.0


def _shared(pair: tuple[RankPrint, RankPrint], world_size: int) -> float:
    """Share of the samples of one that the other one has too; at most `world_size - 1` are repeated to even out."""
    mine, its = ({index for batch in each.batches for index in batch} for each in pair)
    least = min(len(mine), len(its))
    return max(0, len(mine & its) - (world_size - 1)) / least if least else 0.0


def _same_batches(pair: tuple[RankPrint, RankPrint], limits: Limits) -> Finding:
    a, b = pair
    share = _same_step(pair)
    return Finding(
        message=(
            f"ranks {a.rank} and {b.rank} are fed the same samples: {percent(share)} of those of a step are the same, "
            "so they compute the same gradient"
        ),
        where=a.sampler,
        location=a.location or b.location,
        measured=share,
        limit=limits.max_same_step_share,
        confidence=Confidence.CONFIRMED,
        detail=_samplers(pair),
    )


def _overlap(pair: tuple[RankPrint, RankPrint], share: float, limits: Limits) -> Finding:
    a, b = pair
    whole = all(each.samples is not None and each.pass_samples == each.samples for each in pair)
    what = (
        "each of them shuffles the whole dataset for itself, so that one epoch goes through it once per rank"
        if whole
        else "their parts of the dataset are not disjoint"
    )
    return Finding(
        message=f"ranks {a.rank} and {b.rank} have {percent(share)} of their first pass in common: {what}",
        where=a.sampler,
        location=a.location or b.location,
        measured=share,
        limit=limits.max_shared_share,
        severity=Severity.WARNING if whole else Severity.ERROR,
        confidence=Confidence.CONFIRMED,
        detail=_samplers(pair),
    )


def _samplers(pair: tuple[RankPrint, RankPrint]) -> tuple[str, ...]:
    return tuple(
        f"rank {each.rank}: {each.sampler}, {each.pass_samples} of {each.samples} samples a pass"
        for each in pair
        if each.sampler
    )
