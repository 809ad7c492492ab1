"""MOD107: a hand-written backward is not the derivative of its forward."""

from __future__ import annotations

import math

from pydantic import Field

from auditor.declare import Confidence, Finding, Inconclusive, Judgement, Measured, Options, Severity, rule
from auditor.evidence import CustomFunction, CustomFunctions, Remedy, RemedyKind

from ..symptoms import NOT_LEARNING
from ..words import count, number, percent


class Limits(Options):
    max_error: float = Field(
        0.01, gt=0, lt=1, description="Largest relative error of the directional derivatives, median over directions."
    )
    min_directions: int = Field(4, ge=1, description="Random directions in which central differences have to settle.")


@rule(
    "MOD107",
    "incorrect-gradient",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, "exploding-gradients"),
    fix="""Derive the backward anew and check it in double precision:
    `torch.autograd.gradcheck(MyFunction.apply, (x.double().requires_grad_(),))`.""",
    remedies=(RemedyKind.OWN_DERIVATIVE,),
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.autograd.gradcheck.gradcheck.html",
        "https://docs.pytorch.org/docs/stable/notes/extending.html",
    ),
)
def incorrect_gradient(custom: CustomFunctions, limits: Limits) -> Judgement:
    """A hand-written backward does not return the derivative of its forward.

    ## What it does

    Takes every `torch.autograd.Function` of your own that the training loop applies, with the inputs of its first call,
    and compares its backward with central differences of its forward.

    ## Why is it bad?

    Autograd trusts a hand-written backward. With a wrong factor, a sign or a missing term the optimizer follows a
    direction that does not lower the loss, or does so only slowly. Nothing crashes, and the loss may even fall.

    ## How it is measured

    By experiment, in double precision where the function allows it: directional derivatives along up to eight random
    directions, for every input that requires a gradient, at two step sizes. Directions in which the two disagree, at a
    kink, do not count. It fails when the median error over the directions exceeds `max-error`.

    A gradient that is right up to a positive factor is a warning. Gradients that are something else on purpose are
    notes which name the function: where the forward hands its input through (gradient reversal, scaling, clipping),
    where the output does not change with the input (straight-through estimators, spikes), and where the backward is not
    linear in the gradient it gets (clipping).

    ## When it may be wrong

    - Functions of installed packages are not looked at.
    - A function that draws its own random numbers, or that cannot be called outside of the loop, is not judged.
    - A surrogate whose forward does change with the input, such as a soft mask with a hard gradient, cannot be told
      from a mistake and is reported. Waive it.

    ## How to fix

    ```python
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * 3 * x**2
    ```
    """
    checked = [each for each in custom.functions if _is_checked(each, limits)]
    if not checked:
        reasons = [each.reason for each in custom.functions if each.reason]
        raise Inconclusive(
            f"none of {count(len(custom.functions), 'autograd function')} could be checked"
            + (f": {reasons[0]}" if reasons else "")
        )
    worst = max(checked, key=lambda each: each.error if each.verdict == "wrong" else 0.0)
    yield Measured(
        worst.error,
        limits.max_error,
        f"{worst.name} is off by {percent(worst.error)} over {count(worst.directions, 'direction')}",
    )
    for each in checked:
        if each.verdict in ("surrogate", "identity", "clipped"):
            yield _on_purpose(each, limits)
        elif each.verdict == "wrong" and each.error > limits.max_error:
            yield _finding(each, limits)


def _is_checked(each: CustomFunction, limits: Limits) -> bool:
    return each.verdict != "unchecked" and each.directions >= limits.min_directions and math.isfinite(each.error)


def _finding(each: CustomFunction, limits: Limits) -> Finding:
    scaled = each.ratio is not None and math.isfinite(each.ratio) and each.ratio > 0
    if each.missing:
        what = f"returns no gradient for input {each.input + 1}, though the output depends on it"
    elif each.ratio is not None and math.isfinite(each.ratio):
        what = f"returns {number(each.ratio)} times the gradient for input {each.input + 1}"
    else:
        what = f"returns a gradient for input {each.input + 1} that is off by {percent(each.error)}"
    return Finding(
        message=(
            f"{each.name}.backward {what}, compared with central differences in {count(each.directions, 'direction')}"
        ),
        where=each.name,
        location=each.location,
        measured=each.error,
        limit=limits.max_error,
        severity=Severity.WARNING if scaled and not each.missing else None,
        confidence=Confidence.CONFIRMED,
        detail=(f"checked in {each.dtype} on inputs of the training loop",),
        remedies=(Remedy(kind=RemedyKind.OWN_DERIVATIVE, subject=each.name, site=each.location),),
    )


def _on_purpose(each: CustomFunction, limits: Limits) -> Finding:
    why = {
        "surrogate": f"its output does not change with input {each.input + 1}: a surrogate, as a straight-through one",
        "identity": "its forward hands the input through, so it is there to change the gradient (reversal, scaling)",
        "clipped": "its backward is not linear in the gradient that it gets, as one that clips",
    }[each.verdict]
    return Finding(
        message=f"{each.name}.backward is not the derivative of its forward, and seems meant so: {why}",
        where=each.name,
        location=each.location,
        measured=each.error,
        limit=limits.max_error,
        severity=Severity.NOTE,
        confidence=Confidence.CONFIRMED,
        remedies=(),
        fix="Nothing to fix if this is meant; say so with a comment `# audit: ignore[MOD107] surrogate gradient`.",
    )
