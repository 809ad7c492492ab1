"""DAT303: the model has many parameters for few samples, and its held-out loss already falls behind."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field

from auditor.declare import Finding, Inconclusive, Judgement, Measured, NotApplicable, Options, Severity, rule
from auditor.evidence import Program, Trajectory
from auditor.series import middle, signed

from ..words import count, number


class Limits(Options):
    min_ratio: float = Field(10.0, gt=0, description="Trainable parameters for each training sample.")
    min_gap: float = Field(
        1.5, gt=1, description="Held-out over training loss in the end, and by how much that ratio has grown since."
    )
    min_evaluations: int = Field(3, ge=2, description="Held-out evaluations that have to be seen.")


@rule(
    "DAT303",
    "small-data-for-capacity",
    severity=Severity.NOTE,
    explains=("overfitting",),
    fix="""Use a smaller or a pretrained model, augment, or regularize, for example
    `torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)` and dropout.""",
    references=(
        "https://arxiv.org/abs/1611.03530",
        "https://arxiv.org/abs/1912.02292",
    ),
)
def small_data_for_capacity(program: Program, trajectory: Trajectory, limits: Limits) -> Judgement:
    """The model has far more parameters than samples, and its held-out loss falls behind.

    ## What it does

    Sets the trainable parameters against the training samples, and follows the ratio of the held-out to the training
    loss from the first evaluation to the last.

    ## Why is it bad?

    A model that can learn every sample by heart will do so unless something stops it: the training loss goes to zero,
    and the held-out loss stays behind. More steps do not help then; more data, a smaller or pretrained model,
    augmentation or regularization do.

    ## How it is measured

    There are at least `min-ratio` parameters for each sample; and over at least `min-evaluations` evaluations the ratio
    of the held-out to the training loss ends above `min-gap` and has grown by that factor since the first one. The
    growth is what makes the two comparable: a held-out loss that is computed in another way is off from the start.

    ## When it may be wrong

    - Every modern network has more parameters than samples, and most generalize. So this is a note, never a warning,
      and only given where the losses part within the probe.
    - The probe sees few steps: a pass says little about a whole training.
    - Dropout and augmentation raise the training loss alone, and hide a gap.

    ## How to fix

    ```python
    model = torchvision.models.resnet18(weights="DEFAULT")  # pretrained
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.fc = nn.Linear(model.fc.in_features, classes)
    ```
    """
    loaders = [loader for loader in program.loaders if loader.role == "training" and loader.samples]
    if not loaders:
        raise NotApplicable("the number of training samples is not known")
    samples = sum(loader.samples or 0 for loader in loaders)
    trainable = sum(model.trainable for model in program.models)
    ratio = trainable / samples if samples > 0 else 0.0
    if ratio < limits.min_ratio:
        yield Measured(ratio, limits.min_ratio, f"{number(ratio)} trainable parameters for each of {samples} samples")
        return
    held_out = [(step, loss) for step, loss in trajectory.held_out if math.isfinite(loss) and step > 0]
    if len(held_out) < limits.min_evaluations:
        raise Inconclusive(
            f"{number(ratio)} trainable parameters for each sample; needs {limits.min_evaluations} held-out "
            f"evaluations to see whether that shows, saw {len(held_out)}"
        )
    if signed(trajectory.losses, [loss for _, loss in held_out]):
        raise NotApplicable("the losses can be negative, so their ratio means nothing")
    gaps = [_gap(loss, trajectory.losses, step) for step, loss in held_out]
    start, end = gaps[0], middle(gaps[-2:])
    if not (math.isfinite(start) and math.isfinite(end) and start > 0):
        raise Inconclusive("the training loss around the evaluations is zero or not finite")
    course = f"the held-out loss went from {number(start)} to {number(end)} times the training loss"
    yield Measured(ratio, limits.min_ratio, f"{number(ratio)} parameters for each sample; {course}")
    if end < limits.min_gap or end / start < limits.min_gap:
        return
    yield Finding(
        message=(
            f"{number(ratio)} trainable parameters for each of {count(samples, 'training sample')}, and {course} "
            f"within {count(held_out[-1][0], 'step')}"
        ),
        location=loaders[0].location,
        measured=ratio,
        limit=limits.min_ratio,
        detail=(f"{trainable} trainable parameters", f"held-out loss of {count(len(held_out), 'evaluation')}"),
    )


def _gap(held_out: float, losses: Sequence[float], step: int) -> float:
    """Held-out loss over the median training loss of the steps before the evaluation."""
    level = middle(losses[max(0, step - 8) : step])
    return held_out / level if level > 0 else math.nan
