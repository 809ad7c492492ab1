"""REP102: the same step, taken twice, does not give the same numbers."""

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
    Options,
    Severity,
    rule,
)
from auditor.evidence import StepRepeats

from ..words import count, number


class Limits(Options):
    max_difference: float = Field(
        0.0, ge=0, description="Largest relative difference of the losses of two replays of the same steps."
    )
    max_rounding: float = Field(
        1e-4, gt=0, description="Larger relative differences are no matter of rounding, and are not judged."
    )


@rule(
    "REP102",
    "nondeterministic-step",
    severity=Severity.NOTE,
    fix="""Ask torch for repeatable kernels, `torch.use_deterministic_algorithms(True)`, and compute in one thread what
    gradients flow through.""",
    references=(
        "https://docs.pytorch.org/docs/stable/notes/randomness.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.use_deterministic_algorithms.html",
    ),
)
def nondeterministic_step(repeats: StepRepeats, limits: Limits) -> Judgement:
    """The same step, taken twice from the same state, does not give the same numbers.

    ## What it does

    Replays the first steps twice, from the same weights, on the same batches, with the same random numbers, and
    compares the losses and the gradients bit by bit.

    ## Why is it bad?

    No seed makes such a run repeatable. The differences are of the size of rounding errors at first, but training
    amplifies them: two runs part within some hundred steps. Comparisons of two settings then need several runs each,
    and a failure cannot be replayed.

    ## How it is measured

    By experiment, with the program as its own control. It fails when the relative difference of two losses is above
    `max-difference`, or when the gradients differ in one bit. Differences above `max-rounding` are not those of
    rounding: then the loop carries a state of its own that a replay does not put back, and the rule does not judge.

    ## When it may be wrong

    - Kernels that add up with atomic operations on a GPU (scatter, index_add, some convolutions) are fast and not
      repeatable; whoever needs the speed leaves them so. It is a note.
    - A few steps on one machine can prove that steps do not repeat; that they did repeat is no proof for other batches.
    - Loops that cannot be rewound are not judged.

    ## How to fix

    ```python
    torch.use_deterministic_algorithms(True)       # raises where an operation has no repeatable version
    torch.backends.cudnn.benchmark = False
    total = sum(term(output) for term in terms)    # in one thread, in a fixed order
    ```
    """
    differences = _differences(repeats)
    compared = len(differences)
    prints = set(repeats.gradient_prints)
    if not compared and len(repeats.gradient_prints) < 2:
        raise Inconclusive("needs two replays of the same steps")
    most = max(differences, default=0.0)
    yield Measured(
        most,
        limits.max_difference,
        f"the losses of {count(compared, 'step')}, taken twice, differ by {number(most)} at most; the gradients "
        f"{'are the same bit for bit' if len(prints) <= 1 else 'differ'}",
    )
    if most > limits.max_rounding:
        raise Inconclusive(
            f"two replays of the same steps differ by {number(most)}, which is more than rounding: the loop carries "
            "state that a replay does not put back"
        )
    if most <= limits.max_difference and len(prints) <= 1:
        return
    where = f" on {repeats.device}" if repeats.device else ""
    first = next((step for step, difference in enumerate(differences, 1) if difference > 0), None)
    detail = (
        [f"first in the loss of step {first}"] if first is not None else ["the losses are equal, the gradients not"]
    )
    if repeats.deterministic:
        detail.append("torch.use_deterministic_algorithms is on, so the cause lies outside of torch's own kernels")
    elif repeats.device.startswith("cpu"):
        detail.append(f"torch computes with {count(repeats.threads, 'thread')}")
    yield Finding(
        message=(
            f"{count(repeats.steps, 'step')} taken twice{where}, from the same weights on the same batches with the "
            f"same random numbers, do not repeat: "
            + (f"the losses differ by {number(most)} of their size" if most > 0 else "the gradients differ")
        ),
        location=repeats.location,
        measured=most,
        limit=limits.max_difference,
        confidence=Confidence.CONFIRMED,
        detail=tuple(detail),
    )


def _differences(repeats: StepRepeats) -> list[float]:
    """Largest relative difference between the replays, per step that all of them took."""
    return [_apart(values) for values in zip(*repeats.losses, strict=False)] if len(repeats.losses) > 1 else []


def _apart(values: Sequence[float]) -> float:
    if all(math.isnan(value) for value in values) or len(set(values)) == 1:
        return 0.0
    if not all(math.isfinite(value) for value in values):
        return math.inf
    apart = max(values) / 2 - min(values) / 2
    size = max(abs(value) for value in values) / 2
    return apart / size if size else 0.0
