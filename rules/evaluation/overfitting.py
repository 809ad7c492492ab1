"""EVL106: the held-out loss rises while the training loss goes on falling."""

from __future__ import annotations

import itertools
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
from auditor.evidence import Location, Modes, Program, Trajectory
from auditor.series import finite, middle

from ..words import count, number, percent


class Limits(Options):
    min_rise: float = Field(
        0.1, gt=0, description="Smallest rise of the held-out loss over its lowest level, as a share of that level."
    )
    max_p_value: float = Field(
        0.01, gt=0, lt=1, description="Largest p-value of the tests that one loss rises and the other falls."
    )
    min_evaluations: int = Field(7, ge=5, description="Evaluations from the lowest held-out loss on.")


@rule(
    "EVL106",
    "overfitting",
    severity=Severity.NOTE,
    fix="""Keep the weights of the best evaluation, `if val_loss < best: kept = copy.deepcopy(model.state_dict())`, and
    stop there; more data, augmentation, weight decay or a smaller model move that point.""",
    references=(
        "https://doi.org/10.1007/3-540-49430-8_3",
        "https://docs.pytorch.org/vision/stable/transforms.html",
    ),
)
def overfitting(trajectory: Trajectory, modes: Modes | None, program: Program | None, limits: Limits) -> Judgement:
    """The held-out loss rises while the training loss goes on falling: the model learns the training set by heart.

    ## What it does

    Follows the mean held-out loss of every evaluation, and the training loss between the evaluations.

    ## Why is it bad?

    From the turning point on, every step makes the model worse for data that it has not seen. Compute is spent on it,
    and the weights at the end are not the best that the run has had.

    ## How it is measured

    By two tests with a stated error rate. From the lowest held-out loss on, there have to be at least
    `min-evaluations` evaluations; over these the held-out loss rises and the training loss falls, both by Kendall's
    trend test with a p-value of at most `max-p-value`, and the held-out loss ends at least `min-rise` above its lowest
    level. The evaluations use the same held-out data, and must run in evaluation mode.

    ## When it may be wrong

    - The probe sees few steps. Small data sets overfit within them; on large ones nothing can be said, and the rule
      says so.
    - A classifier whose held-out loss rises while its accuracy still improves grows overconfident, which is
      overfitting of the loss only. It is a note.
    - Memorizing on purpose, as experiments with random labels do, is reported where they evaluate.
    - Several held-out sets, or an evaluation of training data without gradients, are averaged.

    ## How to fix

    ```python
    if val_loss < best:
        best, kept, waited = val_loss, copy.deepcopy(model.state_dict()), 0
    else:
        waited += 1
        if waited == 5:
            stop = True
    ```
    """
    held_out = [(step, loss) for step, loss in trajectory.held_out if math.isfinite(loss)]
    if not held_out:
        raise NotApplicable("no loss was computed on held-out data")
    if modes is not None and any(
        2 * model.train_mode_evaluations > model.evaluation_forwards for model in modes.models
    ):
        raise Inconclusive("the model is evaluated in training mode, so its held-out losses are not comparable")
    values = [loss for _, loss in held_out]
    turn = min(range(len(values)), key=lambda index: values[index])
    after = held_out[turn:]
    if len(after) < limits.min_evaluations:
        reason = f"its lowest held-out loss, {number(values[turn])}, was in evaluation {turn + 1} of {len(values)}"
        if turn == len(values) - 1 and len(values) >= limits.min_evaluations:
            yield Measured(0.0, limits.min_rise, f"the held-out loss still falls: {reason}")
            return
        raise Inconclusive(f"needs {limits.min_evaluations} evaluations from the turning point on; {reason}")
    rise = _rise(values[turn], [loss for _, loss in after])
    training = _between(trajectory, [step for step, _ in after])
    rises, falls = _trend([loss for _, loss in after]), _trend([-loss for loss in training])
    yield Measured(
        rise,
        limits.min_rise,
        f"from its lowest level, {number(values[turn])}, the held-out loss went to {number(after[-1][1])} over "
        f"{count(len(after), 'evaluation')}",
    )
    if rise < limits.min_rise or max(rises, falls) > limits.max_p_value or len(training) < 5:
        return
    yield Finding(
        message=(
            f"the held-out loss was lowest after {count(after[0][0], 'step')}, at {number(values[turn])}, and rose by "
            f"{percent(rise)} to {number(after[-1][1])} by step {after[-1][0]}, while the training loss fell from "
            f"{number(training[0])} to {number(training[-1])}"
        ),
        location=_training_place(program),
        measured=rise,
        limit=limits.min_rise,
        confidence=Confidence.SUSPECTED,
        detail=(
            f"Kendall's trend over {count(len(after), 'evaluation')}: p = {number(rises)} for the rise, "
            f"{number(falls)} for the fall",
        ),
    )


def _training_place(program: Program | None) -> Location | None:
    return program.loss_location if program is not None else None


def _rise(lowest: float, values: Sequence[float]) -> float:
    end = middle(values[-3:])
    scale = abs(lowest) or max((abs(value) for value in values), default=0.0)
    rise = (end - lowest) / scale if scale else 0.0
    return rise if math.isfinite(rise) else 0.0


def _between(trajectory: Trajectory, steps: Sequence[int]) -> list[float]:
    """Median training loss between each two evaluations."""
    found = []
    for begin, end in itertools.pairwise(steps):
        losses = finite(trajectory.losses[max(0, begin) : max(0, end)])
        if losses:
            found.append(middle(losses))
    return found


def _trend(values: Sequence[float]) -> float:
    """p-value of a rising trend (Kendall, one-sided); 1 where there is too little to tell."""
    if len(values) < 5 or len(set(values)) < 2:
        return 1.0
    from scipy.stats import kendalltau  # type: ignore[import-untyped]

    p_value = float(kendalltau(range(len(values)), values, alternative="greater").pvalue)
    return p_value if math.isfinite(p_value) else 1.0
