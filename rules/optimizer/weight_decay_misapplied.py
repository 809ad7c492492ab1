"""OPT109: weights whose gradient is masked out move all the same."""

from __future__ import annotations

from pydantic import Field

from auditor.declare import (
    Confidence,
    Finding,
    Inconclusive,
    Judgement,
    Measured,
    Options,
    Severity,
    rule,
)
from auditor.evidence import Motion, ParameterMotion, RemedyKind

from ..words import count, number, percent


class Limits(Options):
    max_moved_share: float = Field(
        0.0, ge=0, lt=1, description="Largest share of the masked elements of a weight that may have moved."
    )
    min_masked: int = Field(8, ge=1, description="Elements with a masked gradient that a weight has to have.")


@rule(
    "OPT109",
    "weight-decay-misapplied",
    severity=Severity.NOTE,
    fix="""Take the decay off the group that holds the frozen rows,
    `{"params": [embedding.weight], "weight_decay": 0.0}`, or copy their old values back after each step.""",
    references=(
        "https://arxiv.org/abs/1711.05101",
        "https://github.com/huggingface/diffusers/issues/1009",
        "https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html",
    ),
    remedies=(RemedyKind.NO_PENALTY,),
)
def weight_decay_misapplied(motion: Motion, limits: Limits) -> Judgement:
    """Elements that are frozen by zeroing their gradient still move, by weight decay or momentum.

    ## What it does

    Finds weights part of whose gradient the loop sets to zero between `backward()` and `step()`, and checks whether
    those elements stay where they were.

    ## Why is it bad?

    A zero gradient does not freeze a weight. Decoupled weight decay (AdamW) shrinks it at every step, coupled decay
    (SGD, Adam) makes a gradient of it, and momentum carries on what was gathered before. In textual inversion, prompt
    tuning and pruning, everything that was to be kept is slowly destroyed.

    ## How it is measured

    By identity, at sampled steps. An element counts as masked when it had a gradient right after `backward()` and none
    at the update, at least once, and never had one at an update. What merely receives no gradient (tokens that do not
    occur) is not masked, and is not looked at. It fails when more than `max-moved-share` of the masked elements of a
    weight differ, at the end of the observation, from what they were before the first step. Optimizers that are built
    later, for a second stage of training, are looked at as far as the probe looks on. That is a warning; there
    is no lesser finding. Biases and norm weights in a group with decay are *not* reported: many good recipes have
    them there.

    ## When it may be wrong

    - Masks that change from step to step leave no element that is always masked, and are not looked at.
    - Masks inside `backward()`, by a hook, are not seen: there the gradient is zero from the start.
    - Elements that the loop copies back after the step are equal at the end, and pass.
    - A mask meant to thin the gradients, while the decay is to act on all elements, would be reported: waive it.

    ## How to fix

    ```python
    optimizer = torch.optim.AdamW([{"params": [embedding.weight], "weight_decay": 0.0}], lr=5e-3)
    ```
    """
    if not motion.parameters:
        raise Inconclusive("no update of a parameter was seen")
    masked = [each for each in motion.parameters if each.masked >= limits.min_masked]
    moved = [each for each in masked if _share(each) > limits.max_moved_share]
    worst = max(masked, key=_share, default=None)
    text = "no weight has a gradient that is set to zero before the step"
    if worst is not None:
        text = f"{worst.masked_moved} of {worst.masked} masked elements of {worst.name} moved"
    yield Measured(_share(worst) if worst is not None else 0.0, limits.max_moved_share, text)
    for each in moved:
        yield _finding(each, motion, limits)


def _share(each: ParameterMotion) -> float:
    return min(1.0, each.masked_moved / each.masked) if each.masked > 0 else 0.0


def _finding(each: ParameterMotion, motion: Motion, limits: Limits) -> Finding:
    what = count(each.masked_rows, "row") if each.masked_rows else count(each.masked, "element")
    when = f"after step {each.since}" if each.since else f"in {count(motion.steps, 'step')}"
    cause = f"its weight decay of {number(each.weight_decay)}" if each.weight_decay else "momentum"
    return Finding(
        message=(
            f"{what} of {each.name} are frozen by a zeroed gradient, and {percent(_share(each))} of their elements "
            f"moved {when}: {each.optimizer} moves them by {cause}"
        ),
        where=each.name,
        location=each.optimizer_location or each.location,
        measured=_share(each),
        limit=limits.max_moved_share,
        severity=Severity.WARNING,
        confidence=Confidence.CONFIRMED,
        since=each.since or None,
        detail=(f"they changed by {number(each.drift)} of their norm so far",),
    )
