"""DST103: the weights of ranks that train one model differ."""

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
from auditor.evidence import RankPrint, Ranks

from ..words import count, number, percent


class Limits(Options):
    min_steps: int = Field(3, ge=1, description="Steps with different weights that make a finding.")


@rule(
    "DST103",
    "rank-divergence",
    severity=Severity.ERROR,
    fix="""Do on every rank whatever changes the weights, and load weights before wrapping:
    `model.load_state_dict(state); model = DistributedDataParallel(model)`.""",
    references=(
        "https://docs.pytorch.org/docs/stable/notes/ddp.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html",
    ),
)
def rank_divergence(ranks: Ranks, limits: Limits) -> Judgement:
    """Ranks that train one model together have different weights.

    ## What it does

    Compares the trained weights of all ranks with each other, after every step.

    ## Why is it bad?

    Data parallel training keeps one copy of the model on every rank and averages gradients: equal weights stay equal,
    bit for bit. Once they differ, through weights that one rank loaded after the wrapping, a schedule or a clipping
    that one rank does alone, or steps on gradients that were not synchronized, each rank applies an average gradient
    that was computed for other weights. The copies drift apart, and the one that is saved is none that was trained.

    ## How it is measured

    By identity. Run the audit under the launcher, `torchrun --nproc-per-node 2 -m auditor run train.py`: each rank is
    followed by an audit of its own, which takes a fingerprint of all trained weights (64 numbers of each) after every
    step, and that of rank 0 compares them. With DistributedDataParallel it fails when the fingerprints differ in at
    least `min-steps` steps and are never equal again. Without it, only when they were equal after a step first.

    ## When it may be wrong

    - Buffers, such as the running statistics of normalization layers, may differ between ranks and are not compared.
    - Sharded models (FSDP, DTensor) hold other weights on every rank by design, and are not judged.
    - Local SGD and periodic averaging make the weights equal again every so often, and pass. With a period longer than
      what was observed, waive it in place.
    - Ranks that train models of their own, without averaging anything, are not judged.

    ## How to fix

    ```python
    model.load_state_dict(torch.load("weights.pt"))
    model = torch.nn.parallel.DistributedDataParallel(model)
    for x, y in loader:
        criterion(model(x), y).backward()
        optimizer.step()
        scheduler.step()  # on every rank, not only on rank 0
    ```
    """
    if ranks.world_size < 2:
        raise NotApplicable("the script trains in one process")
    if any(each.parallel == "sharded" for each in ranks.prints):
        raise NotApplicable("the model is sharded: every rank holds other weights by design")
    prints = [each for each in ranks.prints if each.digests]
    if len(prints) < 2:
        raise Inconclusive(
            f"needs the weights of two ranks, has those of {len(prints)} of {ranks.world_size}: start the audit under "
            "the launcher, one for each rank, and read the report of rank 0"
        )
    steps = min(len(each.digests) for each in prints)
    different = [step for step in range(steps) if len({each.digests[step] for each in prints}) > 1]
    account = f"the weights of {count(len(prints), 'rank')} differ after {len(different)} of {count(steps, 'step')}"
    if not different:
        yield Measured(0.0, float(limits.min_steps), account)
        return
    first = different[0]
    if steps - first < limits.min_steps:
        raise Inconclusive(f"{account}; needs {limits.min_steps} steps from there on")
    if len(different) < steps - first:
        yield Measured(0.0, float(limits.min_steps), f"{account}, and are made equal again in between")
        return
    wrapped = all(each.parallel == "ddp" for each in prints)
    if not wrapped and first == 0:
        raise NotApplicable("nothing keeps the weights of the ranks equal: each seems to train a model of its own")
    yield Measured(float(len(different)), float(limits.min_steps), account)
    yield _finding(prints, different, steps, limits)


def _finding(prints: Sequence[RankPrint], different: Sequence[int], steps: int, limits: Limits) -> Finding:
    first, last = different[0], different[-1]
    when = "from the first step on" if first == 0 else f"from step {first + 1} on"
    levels = [each.levels[last] for each in prints if last < len(each.levels) and math.isfinite(each.levels[last])]
    detail = []
    if len(levels) > 1 and max(levels) > 0:
        apart = (max(levels) - min(levels)) / max(levels)
        detail.append(
            f"after {count(steps, 'step')} the norms of the sampled weights are {number(min(levels))} to "
            f"{number(max(levels))}, {percent(apart)} apart"
        )
    if any(each.buffers for each in prints):
        detail.append("buffers are not compared")
    return Finding(
        message=f"the weights of {count(len(prints), 'rank')} differ {when}, and are never equal again",
        location=next((each.model_location for each in prints if each.model_location is not None), None),
        measured=float(len(different)),
        limit=float(limits.min_steps),
        confidence=Confidence.CONFIRMED,
        detail=tuple(detail),
    )
