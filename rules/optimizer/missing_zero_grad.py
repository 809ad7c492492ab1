"""OPT101: gradients of earlier steps are still there at the next step."""

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
from auditor.evidence import GradientReset, GradientResets, Ownership, Remedy, RemedyKind
from auditor.series import finite, middle

from ..symptoms import NOT_LEARNING, UNSTABLE
from ..words import count, number


class Limits(Options):
    max_stale_share: float = Field(
        0.5, ge=0, lt=1, description="Largest share of the steps that may use a gradient which was used before."
    )
    min_steps: int = Field(3, ge=2, description="Steps of an optimizer that have to be checked.")


@rule(
    "OPT101",
    "missing-zero-grad",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, *UNSTABLE, "lr-too-high"),
    fix="""Clear the gradients once per step, before backward():
    `optimizer.zero_grad(); loss.backward(); optimizer.step()`.""",
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.zero_grad.html",
        "https://docs.pytorch.org/tutorials/recipes/recipes/zeroing_out_gradients.html",
    ),
    remedies=(RemedyKind.ZERO_GRADIENTS,),
)
def missing_zero_grad(resets: GradientResets, ownership: Ownership | None, limits: Limits) -> Judgement:
    """Steps use the gradients of all steps before them, because nothing clears them.

    ## What it does

    Looks, at every step of every optimizer, whether its gradient still contains the one that the step before used.

    ## Why is it bad?

    `backward()` adds to `.grad`. Without a reset the optimizer follows the sum of all gradients since the start: the
    step grows with every iteration and points to where the loss fell long ago. Training oscillates, stalls or diverges
    in a way that looks like a learning rate that is too high, and a tiny rate only hides it.

    ## How it is measured

    By identity, on the gradient itself and not on calls of `zero_grad()`: after a step the gradient buffer is noted,
    and at the next step it is checked whether that very content is still part of it. An optimizer fails when more than
    `max-stale-share` of its checked steps were stale. So a reset once per epoch fails as well.

    ## When it may be wrong

    - Gradient accumulation passes: several backward passes feed *one* step, and the gradients of that step are gone at
      the next one.
    - Updates that a loop makes by itself, without an optimizer of torch, are told by the weights; what is left over
      counts there only where it is the very gradient of the step before.
    - `set_to_none=True`, `p.grad = None`, `p.grad.zero_()`, `model.zero_grad()` and closures pass, because the buffer
      is what counts.
    - In a GAN the generator's backward pass also fills the discriminator; that is no reuse, and clearing it before the
      discriminator's own step passes.
    - Optimizers that hold float32 copies of half-precision weights (master weights) get their gradients by assignment,
      which replaces the old ones: not applicable, where the model's own are cleared in every step.
    - A loop that carries gradients over on purpose, as a hand-written momentum, would be reported: waive it in place.

    ## How to fix

    ```python
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
    ```
    """
    if ownership is not None and _copies(ownership) and any(map(_cleared_elsewhere, resets.optimizers)):
        raise NotApplicable("the optimizer holds copies of the weights, whose gradients are handed over at every step")
    checked = [reset for reset in resets.optimizers if reset.steps_checked >= limits.min_steps]
    if not checked:
        most = max((reset.steps_checked for reset in resets.optimizers), default=0)
        raise Inconclusive(f"needs {limits.min_steps} checked steps of one optimizer, saw {most}")
    worst = max(checked, key=_share)
    yield Measured(
        _share(worst),
        limits.max_stale_share,
        f"{worst.stale_steps} of {count(worst.steps_checked, 'step')} of {worst.optimizer} used a gradient again",
    )
    for reset in checked:
        if _share(reset) > limits.max_stale_share and reset.stale_steps >= 2:
            yield _finding(reset, limits)


def _copies(ownership: Ownership) -> bool:
    """The optimizer's tensors are not the model's, and the model's, which it does not hold, move all the same."""
    return ownership.own_tensors and any(group.moved for group in ownership.left_out)


def _cleared_elsewhere(reset: GradientReset) -> bool:
    """The model's gradients were cleared in every step, so that those of the optimizer's own tensors are not its."""
    return reset.stale_steps > 0 and reset.zero_grad_calls >= max(reset.steps_checked, 1)


def _share(reset: GradientReset) -> float:
    # A left-over of norm 0 is no left-over.
    if reset.stale_norms and not any(reset.stale_norms):
        return 0.0
    return min(1.0, reset.stale_steps / reset.steps_checked)


def _finding(reset: GradientReset, limits: Limits) -> Finding:
    if reset.zero_grad_calls:
        detail = [f"zero_grad() was called {count(reset.zero_grad_calls, 'time')}, but not between these steps"]
    else:
        detail = ["zero_grad() was never called"]
    stale, used = middle(reset.stale_norms), middle(reset.grad_norms)
    if stale > 0 and used > 0:
        detail.append(f"the left-over has a median norm of {number(stale)}, the gradient then used {number(used)}")
    norms = finite(reset.grad_norms)
    if len(norms) > 2:
        detail.append(f"the norm of the gradient went from {number(norms[0])} to {number(norms[-1])}")
    always = reset.stale_steps >= reset.steps_checked
    return Finding(
        message=(
            f"{'all ' if always else f'{reset.stale_steps} of '}{reset.steps_checked} checked steps of "
            f"{reset.optimizer} still contained the gradient of the step before: it is "
            f"{'never cleared' if always else 'not cleared at every step'}"
        ),
        where=reset.optimizer,
        location=reset.backward_location or reset.step_location,
        measured=_share(reset),
        limit=limits.max_stale_share,
        confidence=Confidence.CONFIRMED,
        detail=tuple(detail),
        remedies=(Remedy(kind=RemedyKind.ZERO_GRADIENTS, site=reset.backward_location or reset.step_location),),
    )
