"""OPT102: gradients are cleared before a step has used them."""

from __future__ import annotations

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
from auditor.evidence import ClearedGradients, EventTrace, RemedyKind
from auditor.series import middle

from ..symptoms import NOT_LEARNING
from ..words import count, number, percent


class Limits(Options):
    max_dropped_share: float = Field(
        0.05, ge=0, lt=1, description="Largest share of the backward passes whose gradient may be thrown away."
    )
    max_empty_share: float = Field(
        0.5, ge=0, lt=1, description="Largest share of the steps that may find no gradient after a backward pass."
    )
    min_steps: int = Field(5, ge=2, description="Optimizer steps that have to be seen.")


@rule(
    "OPT102",
    "misplaced-zero-grad",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, "params-not-updated", "update-ratio", "broken-graph"),
    fix="""Clear the gradients right after the step that has used them, and nowhere else:
    `optimizer.step(); optimizer.zero_grad()`.""",
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.zero_grad.html",
        "https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-accumulation",
        "https://github.com/ultralytics/ultralytics/issues/11217",
    ),
    remedies=(RemedyKind.ZERO_GRADIENTS,),
)
def misplaced_zero_grad(trace: EventTrace, limits: Limits) -> Judgement:
    """Gradients are cleared between the backward pass and the step that should use them.

    ## What it does

    Follows the order of the calls in every step and notes each `zero_grad()` that clears a gradient which no step has
    used. Four mistakes look like this: the call stands between `backward()` and `step()`; it stands inside the loop
    over micro-batches, so that an accumulating loop keeps only the last of them; it stands between the backward passes
    of several losses; or it stands at the start of the epoch and drops what the last, incomplete accumulation had
    gathered.

    ## Why is it bad?

    The work of those backward passes is thrown away. In the first case the step sees no gradient at all and nothing is
    trained (with momentum or weight decay the weights still drift, which hides it). In the second, one micro-batch
    stands for all, and a loss that is divided by their number makes the steps that many times too short. In the third,
    only the last loss is learnt. In the fourth, a part of each epoch is never learnt from.

    ## How it is measured

    By identity. The right order is `zero_grad, (forward, backward) x k, unscale, clip, step`. When `zero_grad()` is
    called after a backward pass, the norm of what it clears is taken. A step counts as empty when such a call was the
    last thing before it and every gradient is then zero or gone. A backward pass counts as dropped when its
    gradient was cleared and the next backward pass is, on the same line of code, that of another batch, or, with the
    weights where they were, that of another loss, on the same batch or on one that another line back-propagates, which
    does not contain the first one. A step whose
    gradient is another one than the last backward pass left (in direction) is put together by hand, and drops
    nothing. It fails when more than `max-empty-share` of the steps are empty, or more than `max-dropped-share` of the
    backward passes are dropped. A dropped rest at the start of an epoch is a warning.

    ## When it may be wrong

    - Gradients that are meant to be read and then cleared are left alone: adversarial examples, optimizers of two
      passes (SAM), projected gradients of several tasks, gradients per sample. A second pass over a batch, or on
      another line, is looked at only where none of your sources reads `.grad`.
    - Closures (LBFGS) clear gradients that the optimizer has read.
    - With several optimizers, one network's pass also fills the gradients of another, which clears them. There, only
      empty steps count.
    - A loop that drops a batch now and then, for a bad loss, stays below the limit.
    - The probe ends the first epoch early; a rest that this leaves behind is not counted. Where epochs are longer than
      the observation, the rest at the end of an epoch is not seen.

    ## How to fix

    ```python
    for i, (x, y) in enumerate(loader):
        loss = criterion(model(x), y) / accumulate
        loss.backward()
        if (i + 1) % accumulate == 0 or i + 1 == len(loader):
            optimizer.step()
            optimizer.zero_grad()
    ```
    """
    if trace.closure:
        raise NotApplicable("the optimizer is given a closure, in which it has the gradients cleared itself")
    if trace.steps < limits.min_steps:
        raise Inconclusive(f"needs {count(limits.min_steps, 'step')}, saw {trace.steps}")
    empty = min(1.0, trace.empty_updates / trace.steps)
    several = trace.optimizers > 1
    dropped = 0 if several else sum(max(0, site.backwards) for site in trace.cleared if site.between_backwards)
    share = min(1.0, dropped / trace.backwards) if trace.backwards > 0 else 0.0
    if empty > limits.max_empty_share:
        yield Measured(
            empty, limits.max_empty_share, f"{trace.empty_updates} of {count(trace.steps, 'step')} were empty"
        )
        yield _empty(trace, empty, limits)
        return
    yield Measured(
        share,
        limits.max_dropped_share,
        f"{dropped} of {count(trace.backwards, 'backward pass')} were cleared before a step had used them",
    )
    if share > limits.max_dropped_share:
        yield from _dropped(trace, limits)


def _empty(trace: EventTrace, share: float, limits: Limits) -> Finding:
    site = max(trace.cleared, key=lambda site: site.before_update, default=ClearedGradients())
    detail = [f"order of the calls: {_order(trace)}"]
    if site.norms:
        detail.append(f"the gradient that is cleared has a median norm of {number(middle(site.norms))}")
    return Finding(
        message=(
            f"{trace.empty_updates} of {count(trace.steps, 'step')} found no gradient: "
            f"{'zero_grad() is called' if trace.cleared else 'they are set to None'} between backward() and step()"
        ),
        location=site.location or trace.step_location,
        measured=share,
        limit=limits.max_empty_share,
        confidence=Confidence.CONFIRMED,
        detail=tuple(detail),
        fix="Move the call before the backward pass: `optimizer.zero_grad(); loss.backward(); optimizer.step()`.",
    )


def _dropped(trace: EventTrace, limits: Limits) -> Iterator[Finding]:
    for site in trace.cleared:
        calls, lost = site.between_backwards, max(0, site.backwards)
        if not calls or lost / max(1, trace.backwards) <= limits.max_dropped_share:
            continue
        rest = 2 * site.at_epoch_start >= calls
        detail = [f"order of the calls: {_order(trace)}"]
        if site.norms:
            detail.append(f"what is cleared has a median norm of {number(middle(site.norms))}")
        share = min(1.0, lost / max(1, trace.backwards))
        if rest:
            message = (
                f"{percent(share)} of the backward passes are thrown away: zero_grad() at the start of an epoch clears "
                f"the gradients of an accumulation that was not complete ({count(lost, 'pass')} so far)"
            )
        elif 2 * site.between_losses >= calls:
            used = max(0, trace.used_backwards)
            message = (
                f"only {used} of {count(trace.backwards, 'backward pass')} reach a step: zero_grad() is called between "
                "the backward passes of several losses, so that only the last loss is learnt"
            )
        else:
            used = max(0, trace.used_backwards)
            message = (
                f"only {used} of {count(trace.backwards, 'backward pass')} reach a step: zero_grad() is called for "
                f"every micro-batch, so that of each accumulation only what came after the last call counts"
            )
        yield Finding(
            message=message,
            location=site.location or trace.step_location,
            measured=share,
            limit=limits.max_dropped_share,
            severity=Severity.WARNING if rest else Severity.ERROR,
            confidence=Confidence.CONFIRMED,
            detail=tuple(detail),
            fix=_fix(site, rest=rest),
        )


def _fix(site: ClearedGradients, *, rest: bool) -> str | None:
    if rest:
        return "Step on the last batch too: `if (i + 1) % k == 0 or i + 1 == len(loader):`."
    if 2 * site.between_losses >= site.between_backwards:
        return "Clear once a step, and add the losses up: `optimizer.zero_grad(); sum(losses).backward()`."
    return None


WORDS = {
    "n": "next batch",
    "f": "forward",
    "b": "backward",
    "u": "unscale",
    "c": "clip",
    "z": "zero_grad",
    "s": "step",
    "l": "scheduler.step",
}


def _order(trace: EventTrace, most: int = 14) -> str:
    """The most frequent order, in words."""
    calls = max(trace.orders, key=lambda order: order.steps).calls if trace.orders else ""
    calls = calls.replace("l", "", 1) if calls.startswith("l") else calls
    words = [WORDS.get(letter, letter) for letter in calls]
    return ", ".join(words[:most]) + (", ..." if len(words) > most else "") or "not seen"
