"""OPT107: the losses of accumulated micro-batches are added up, not averaged."""

from __future__ import annotations

import math
from collections.abc import Iterator

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
from auditor.evidence import Accumulation, DividedAccumulation, Remedy, RemedyKind
from auditor.paired import compare, untrue
from auditor.series import finite, middle

from ..symptoms import NOT_LEARNING, UNSTABLE
from ..words import count, number, percent


class Limits(Options):
    max_error: float = Field(
        0.01, gt=0, lt=1, description="Largest relative distance of a loss's factor from the one that is compared."
    )
    min_gain: float = Field(
        0.1, gt=0, lt=1, description="Share of the end loss that dividing has to remove to make it an error."
    )
    max_p_value: float = Field(0.01, gt=0, lt=1, description="Largest p-value of the paired test.")
    max_imbalance: float = Field(
        2.0, gt=1, description="Largest ratio of the labels counted in two micro-batches of one step."
    )
    max_excess: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Largest share of a step's weight that a small remainder may have beyond its share of the values.",
    )
    max_fidelity: float = Field(0.05, gt=0, description="Largest relative error of the replay's own first loss.")


@rule(
    "OPT107",
    "accumulation-not-normalised",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, *UNSTABLE, "lr-too-high"),
    fix="""Divide each micro-batch's loss by their number before the backward pass:
    `(loss / accumulation_steps).backward()`.""",
    references=(
        "https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-accumulation",
        "https://huggingface.co/docs/accelerate/usage_guides/gradient_accumulation",
        "https://unsloth.ai/blog/gradient",
    ),
    remedies=(RemedyKind.DIVIDE_LOSS,),
)
def accumulation_not_normalised(
    accumulation: Accumulation, divided: DividedAccumulation | None, limits: Limits
) -> Judgement:
    """Gradients of several micro-batches are summed although each loss is a mean: the step is too long.

    ## What it does

    Where one optimizer step follows several backward passes, each on a batch of its own, compares the value that
    `backward()` is called on with the one that the loss function returned.

    ## Why is it bad?

    Accumulation is to stand for one large batch, whose loss is the *mean* over its samples. Backward passes *add* their
    gradients, so k undivided means give k times that gradient. With SGD the step is k times as long, and a rate that
    was right without accumulation makes the loss oscillate or diverge; with clipping, the threshold bites k times as
    early.

    ## How it is measured

    By identity first: if the factor between the two values is 1 (within `max-error`) for every micro-batch, the loss
    functions reduce by mean, the micro-batches differ and nothing rescales the gradient before the step, the sum is
    undivided. Optimizers that divide by the size of their gradients (the Adam family, RMSprop, Adagrad) take the same
    steps either way, and pass. For SGD the effect decides: the loop is replayed from the same weights on the same
    batches, once as it is and once at the rate that dividing amounts to. It is an error when the loss then ends lower
    by `min-gain` (paired Wilcoxon test), else a note: a rate that was tuned with the sum is fine as it is. A note also
    says when micro-batches of one step average over very unequal numbers of labels (`max-imbalance`), because a mean of
    means gives every label of the shorter ones more weight.

    By identity as well, where the graph of the loss tells what each value counts: of three or more micro-batches of a
    step all have one size but the last, which is what the division has left over, and its values have more than
    `max-imbalance` times the weight of the others, so that its share of the step's weight is `max-excess` larger than
    its share of the data. It is a warning where these rows are the same ones in every step, else a note.

    ## When it may be wrong

    - Several losses on one batch, or on lines of their own, are no accumulation: batches and lines are compared.
    - Sum-reduced losses cannot be judged; of ones that are not torch's own, only those that end in `mean()`, which may
      be divided or multiplied by a number after that.
    - Gradients that are divided or clipped after the backward passes are seen by the change of their norm, and pass.

    ## How to fix

    ```python
    for i, (x, y) in enumerate(loader):
        loss = criterion(model(x), y)
        (loss / accumulation_steps).backward()
        if (i + 1) % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()
    ```
    """
    k = accumulation.per_step
    if k < 2 or accumulation.batches < k:
        raise NotApplicable("the backward passes of a step share their batch: several losses, no accumulation")
    if accumulation.sites > 1:
        raise NotApplicable("backward() is called on several lines: losses of different kinds, no accumulation")
    ratios = finite(accumulation.ratios)
    if not ratios or len(ratios) < len(accumulation.ratios):
        raise Inconclusive("the loss is no function of torch, so that its own value is not known")
    if not accumulation.own_means and accumulation.reductions != ("mean",):
        raise NotApplicable(f"the loss is not reduced by mean ({', '.join(accumulation.reductions) or 'unknown'})")
    factor = middle(ratios)
    spread = max(abs(ratio - factor) for ratio in ratios)
    text = f"backward() gets {number(factor)} times the loss, for {k} micro-batches per step"
    yield Measured(factor * k if math.isfinite(factor * k) else None, 1.0, text)
    yield from list(_remainder(accumulation, limits)) or _unequal(accumulation, limits)
    if not spread <= limits.max_error * max(1.0, abs(factor)):
        if _alike(accumulation, limits):
            return
        raise Inconclusive(f"the factor between backward()'s value and the loss varies, around {number(factor)}")
    if not abs(factor - 1) <= limits.max_error:
        return
    if _rescaled(accumulation, limits) or accumulation.scale_free:
        return
    yield _finding(accumulation, divided, k, limits)


def _alike(accumulation: Accumulation, limits: Limits) -> bool:
    """Each value counts the same, in whichever micro-batch it is: weighted by the sizes of these."""
    every = [max(row) - min(row) <= limits.max_error * max(row) for row in accumulation.weights if row]
    return len(every) == accumulation.steps and all(every)


def _rescaled(accumulation: Accumulation, limits: Limits) -> bool:
    """Clipped or divided at most steps: the norm at the step is another one than that after the last backward."""
    changed = [ratio for ratio in finite(accumulation.rescaled) if abs(ratio - 1) > limits.max_error]
    return 2 * len(changed) > len(accumulation.rescaled) > 0


def _finding(accumulation: Accumulation, divided: DividedAccumulation | None, k: int, limits: Limits) -> Finding:
    looks = [] if divided is None or untrue(divided.fidelity, limits.max_fidelity) else list(divided.looks)
    seen = [compare(look) for look in looks]
    better = [
        look
        for look in seen
        if look.gain >= limits.min_gain
        and not look.treated_diverged
        and (look.p_value <= limits.max_p_value or look.control_diverged)
    ]
    harmful = bool(better) and len(better) == len(seen)
    detail = [
        f"from the same weights, {count(look.steps, 'step')}: loss {number(look.control_end)} as it is, "
        f"{number(look.treated_end)} at the step that dividing by {k} gives"
        for look in seen
    ]
    if not seen:
        detail.append("no experiment was made, so that its effect is not known")
    effect = (
        f"the loss ends at {number(better[0].control_end)} instead of {number(better[0].treated_end)}"
        if harmful
        else "it acts as a learning rate that many times higher"
    )
    return Finding(
        message=(
            f"the mean losses of {k} micro-batches are added up undivided, so each step of {accumulation.optimizer} is "
            f"{k} times as long: {effect}"
        ),
        where=accumulation.optimizer,
        location=accumulation.backward_location or accumulation.step_location,
        measured=float(k),
        limit=1.0,
        severity=Severity.ERROR if harmful else Severity.NOTE,
        confidence=Confidence.CONFIRMED,
        detail=tuple(detail),
        fix=f"Divide the loss: `(loss / {k}).backward()`.",
        remedies=(Remedy(kind=RemedyKind.DIVIDE_LOSS, amount=float(k)),),
    )


def _remainder(accumulation: Accumulation, limits: Limits) -> Iterator[Finding]:
    """Rows cut into parts of one size: the last one, what is left over, counts as much as each of the others."""
    rows = zip(accumulation.values, accumulation.weights, strict=False)
    found = [part for part in (_last_part(sizes, weights) for sizes, weights in rows) if part is not None]
    if not found or len(found) < len(accumulation.values):
        return
    size, usual, ratio, share, due = found[0]
    if ratio <= limits.max_imbalance or share - due <= limits.max_excess:
        return
    which = "the same ones in every step" if accumulation.same_last else "other ones in each step"
    yield Finding(
        message=(
            f"the last of {accumulation.per_step} micro-batches of a step is what is left over, {count(size, 'value')} "
            f"instead of {usual}, and counts as much as each other: these values, {which}, have {number(ratio)} times "
            f"the weight of the others, {percent(share)} of the step for {percent(due)} of the data"
        ),
        location=accumulation.backward_location or accumulation.step_location,
        measured=ratio,
        limit=limits.max_imbalance,
        severity=Severity.WARNING if accumulation.same_last else Severity.NOTE,
        confidence=Confidence.CONFIRMED,
        fix="Weight each loss by its share of the rows: `(loss * len(part) / len(data)).backward()`.",
        remedies=(),
    )


def _last_part(sizes: tuple[int, ...], weights: tuple[float, ...]) -> tuple[int, int, float, float, float] | None:
    """(its values, those of each other part, weight of one of its values in theirs, its share of the whole weight,
    its share of the values); None where the parts before it, three or more with it, are not all alike."""
    if not 3 <= len(sizes) == len(weights) or len(set(sizes[:-1])) != 1 or not 0 < sizes[-1] < sizes[0]:
        return None
    if not all(math.isfinite(weight) and weight > 0 for weight in weights):
        return None
    if max(weights[:-1]) > 1.01 * min(weights[:-1]):
        return None
    whole = math.fsum(size * weight for size, weight in zip(sizes, weights, strict=True))
    share = sizes[-1] * weights[-1] / whole
    return sizes[-1], sizes[0], weights[-1] / weights[0], share, sizes[-1] / sum(sizes)


def _unequal(accumulation: Accumulation, limits: Limits) -> Iterator[Finding]:
    ratios = [max(row) / min(row) for row in accumulation.counted if len(row) > 1 and min(row) > 0]
    if not ratios:
        return
    ratio = middle(ratios)
    if ratio > limits.max_imbalance:
        yield Finding(
            message=(
                f"micro-batches of one step average over unequal numbers of labels (a factor of {number(ratio)} in the "
                "median step) and count the same: labels of the short ones weigh more"
            ),
            location=accumulation.backward_location or accumulation.step_location,
            measured=ratio,
            limit=limits.max_imbalance,
            severity=Severity.NOTE,
            confidence=Confidence.CONFIRMED,
            fix="Sum the losses and divide by the labels of the whole step: `(loss_sum / labels_in_step).backward()`.",
            remedies=(),
        )
