"""EFF103: the evaluation builds graphs that no backward ever uses."""

from __future__ import annotations

from pydantic import Field

from auditor.declare import (
    Confidence,
    Finding,
    Judgement,
    Measured,
    NotApplicable,
    Options,
    Severity,
    rule,
)
from auditor.evidence import Modes

from ..words import count


class Limits(Options):
    min_forwards: int = Field(1, ge=1, description="Fewest evaluation forwards with an unused graph to report.")


@rule(
    "EFF103",
    "gradients-in-evaluation",
    severity=Severity.NOTE,
    fix="Evaluate under `with torch.no_grad():`, or decorate the function with `@torch.no_grad()`.",
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.no_grad.html",
        "https://docs.pytorch.org/docs/stable/notes/autograd.html#locally-disabling-gradient-computation",
    ),
)
def gradients_in_evaluation(modes: Modes, limits: Limits) -> Judgement:
    """The evaluation runs with gradients enabled and builds graphs that no backward ever uses.

    ## What it does

    Looks whether the forwards of an evaluation build a graph, and whether a backward ever goes through it.

    ## Why is it bad?

    A graph keeps every intermediate result of the forward until it is released: an evaluation needs several times the
    memory, so it runs out of memory with batches that would fit, and it is slower. A loss that is summed up over the
    batches keeps the graphs of all of them.

    ## How it is measured

    By identity: the output of the forward carries a graph, and a hook on its node never heard a backward. Only forwards
    on the batches of a held-out loader count, or such as are followed by a loss or a comparison and got another input
    than the training did. It fails from `min-forwards` of them on.

    ## When it may be wrong

    - Adversarial evaluation and saliency maps differentiate with respect to the input: a backward passes through, and
      they do not count.
    - A model without trained weights in the forward builds no graph and does not count.

    ## How to fix

    ```python
    model.eval()
    with torch.no_grad():
        for x, y in val_loader:
            total += criterion(model(x), y).item()
    ```
    """
    evaluated = [model for model in modes.models if model.evaluation_forwards > 0]
    if not evaluated:
        raise NotApplicable(f"no evaluation was seen in {count(modes.steps, 'observed step')}")
    worst = max(evaluated, key=lambda model: model.graph_evaluations)
    forwards = count(worst.evaluation_forwards, "evaluation forward")
    yield Measured(
        worst.graph_evaluations,
        limits.min_forwards,
        f"{worst.graph_evaluations} of {forwards} of {worst.model} built a graph that no backward used",
    )
    for model in evaluated:
        if model.graph_evaluations >= limits.min_forwards:
            forwards = count(model.evaluation_forwards, "evaluation forward")
            yield Finding(
                message=(
                    f"{model.graph_evaluations} of {forwards} of {model.model} built a graph that no backward used: "
                    "it costs memory and time and serves nothing"
                ),
                where=model.model,
                location=model.graph_location or model.location,
                measured=model.graph_evaluations,
                limit=limits.min_forwards,
                confidence=Confidence.CONFIRMED,
            )
