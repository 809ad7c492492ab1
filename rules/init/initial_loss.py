"""INI103: the untrained model is worse than a guess that knows nothing."""

from __future__ import annotations

import math

from pydantic import Field

from auditor.declare import (
    Finding,
    Inconclusive,
    Judgement,
    Measured,
    NotApplicable,
    Options,
    Severity,
    rule,
)
from auditor.evidence import InitialLoss, RemedyKind

from ..symptoms import NOT_LEARNING
from ..words import count, number


class Limits(Options):
    max_ratio: float = Field(
        2.0, gt=1, description="Largest first loss over that of an indifferent guess, ln C. Default starts reach 1.1."
    )
    min_z: float = Field(4.0, ge=0, description="Standard errors by which the first loss has to exceed the limit's.")
    min_samples: int = Field(16, ge=2, description="Samples that the first loss has to be the mean of.")


@rule(
    "INI103",
    "initial-loss",
    severity=Severity.WARNING,
    explains=NOT_LEARNING,
    fix="""Start the output layer small, so that the first predictions are indifferent:
    `nn.init.normal_(model.head.weight, std=0.01); nn.init.zeros_(model.head.bias)`.""",
    references=(
        "https://karpathy.github.io/2019/04/25/recipe/",
        "https://cs231n.github.io/neural-networks-3/",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html",
    ),
    remedies=(RemedyKind.REINITIALIZE,),
)
def initial_loss(initial: InitialLoss, limits: Limits) -> Judgement:
    """The first loss is far above that of an indifferent guess: the untrained model is sure, and wrong.

    ## What it does

    Compares the classification loss at step 0 with ln C, the loss of giving each of C classes the same probability.

    ## Why is it bad?

    A model that has learned nothing should be sure of nothing. Where its first logits are large, the first part of the
    run only shrinks the output weights, gradients are dominated by that correction, and hidden units may saturate or
    die in it. The loss curve looks like a hockey stick and its best part is wasted. It can also point at inputs of a
    wild scale or at labels that do not belong to the outputs.

    ## How it is measured

    The loss is the mean per sample at the recognised cross-entropy call, with class weights and reduction undone. It
    fails when it exceeds `max-ratio` times ln C by `min-z` standard errors of that mean. Between 1.1 and 2 times ln C
    is unusual but harmless, and it passes with the figures shown.

    ## When it may be wrong

    - A pretrained or resumed model may be sure of other classes than yours: not judged.
    - Soft targets (mixup, distillation) have a floor of their own: not judged.
    - In contrastive losses the classes are the samples of the batch, and a temperature makes large logits normal: not
      judged when there are as many classes as samples.
    - A loss *below* ln C is right for imbalanced classes with an initialised bias, and never reported.
    - Losses other than a recognised cross-entropy call (CTC, sums of several tasks) are not judged.

    ## How to fix

    Give the output layer small weights. Standardize the inputs if they are large.

    ```python
    nn.init.normal_(self.head.weight, std=0.01)
    nn.init.zeros_(self.head.bias)
    ```
    """
    if initial.pretrained:
        raise NotApplicable("the model starts from loaded weights, so its first loss is not that of a guess")
    if initial.soft_targets:
        raise NotApplicable("the targets are soft, so the loss of an indifferent guess is not ln C")
    if initial.classes < 2:
        raise NotApplicable("the loss has fewer than two classes")
    if initial.classes == initial.samples:
        raise NotApplicable("as many classes as samples: a contrastive loss, where a temperature sets the first loss")
    if not math.isfinite(initial.value):
        raise Inconclusive(f"the first loss is {number(initial.value)}; see nonfinite-loss")
    uniform = math.log(initial.classes)
    ratio = initial.value / uniform
    yield Measured(
        ratio,
        limits.max_ratio,
        f"the first loss {number(initial.value)} is {number(ratio)} times ln {initial.classes} = {number(uniform)}",
    )
    if ratio <= limits.max_ratio:
        return
    if initial.samples < limits.min_samples:
        raise Inconclusive(
            f"the first loss {number(initial.value)} is high, but the mean of only {count(initial.samples, 'sample')}; "
            f"this needs {limits.min_samples}"
        )
    error = initial.standard_error
    if not math.isfinite(error) or initial.value - limits.min_z * abs(error) <= limits.max_ratio * uniform:
        raise Inconclusive(
            f"the first loss {number(initial.value)} is high, but with a standard error of {number(error)} not surely "
            f"above {number(limits.max_ratio * uniform)}: a larger batch would tell"
        )
    detail = [f"an indifferent guess among {initial.classes} classes has the loss {number(uniform)}"]
    if math.isfinite(initial.marginal) and 0 < initial.marginal < 0.95 * uniform:
        detail.append(f"always predicting the labels' own frequencies would give {number(initial.marginal)}")
    if math.isfinite(initial.max_logit) and initial.max_logit > 0:
        detail.append(f"the largest logit is {number(initial.max_logit)}; untrained models stay near 0")
    detail.append(
        f"mean over {count(initial.samples, 'sample')} of {initial.function}, standard error {number(error)}"
        + (", class weights taken out" if initial.weighted else "")
    )
    yield Finding(
        message=(
            f"the first loss is {number(initial.value)}, {number(ratio)} times the {number(uniform)} of an indifferent "
            f"guess among {initial.classes} classes: the untrained model is sure of wrong answers"
        ),
        where=initial.where,
        location=initial.layer_location or initial.location,
        measured=ratio,
        limit=limits.max_ratio,
        detail=tuple(detail),
    )
