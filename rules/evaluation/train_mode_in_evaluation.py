"""EVL101: the model is evaluated in training mode."""

from __future__ import annotations

from collections.abc import Sequence

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
from auditor.evidence import ModeEffect, ModelModes, Modes, ModuleMode, RemedyKind

from ..words import count, listing, named, number, percent


class Limits(Options):
    max_share: float = Field(
        0.5, ge=0, lt=1, description="Largest share of a model's evaluation forwards that may run in training mode."
    )


@rule(
    "EVL101",
    "train-mode-in-evaluation",
    severity=Severity.ERROR,
    fix="""Switch the model before an evaluation and back after it: `model.eval()`, then evaluate under
    `torch.no_grad()`, then `model.train()`.""",
    remedies=(RemedyKind.EVALUATION_MODE,),
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.eval",
        "https://docs.pytorch.org/docs/stable/notes/autograd.html#evaluation-mode-nn-module-eval",
    ),
)
def train_mode_in_evaluation(modes: Modes, effect: ModeEffect | None, limits: Limits) -> Judgement:
    """The model is evaluated in training mode: dropout drops, and norm layers use and learn from held-out data.

    ## What it does

    Looks at the mode of every dropout and norm layer in every evaluation forward of the script.

    ## Why is it bad?

    In training mode dropout removes a part of the network, so the measured score is that of a damaged model. Batch
    norm normalizes each held-out batch by its own statistics, so a prediction depends on which other samples share the
    batch, and its running statistics learn from the held-out data: that is leakage. Scores are noisy, usually too low,
    and not those of the model that is deployed.

    ## How it is measured

    By identity. A forward counts as evaluation when no backward passed through it and its batch came from a held-out
    loader, or a loss or a comparison with labels followed without gradients. The rule fails when more than `max-share`
    of a model's evaluation forwards ran with the model itself in training mode and with a layer in it that is
    different there. Where the loop can be replayed, one batch is also passed in both modes, from the same weights and
    with the same random numbers: the message says by how much the loss differs.

    ## When it may be wrong

    - Models without dropout or norm layers behave alike in both modes; they are not applicable.
    - Monte Carlo dropout passes: several passes over the same input, or a model in evaluation mode whose dropout
      layers were switched on one by one.
    - Samples of a generator, moving averages and teachers are no evaluation. In adversarial training, forwards without
      a loss or a comparison are not counted.
    - If the outputs in both modes are equal bit for bit, it passes.
    - Norm layers that use the statistics of the test batch on purpose (transductive few-shot learning) would be
      reported: waive it in place.

    ## How to fix

    ```python
    model.eval()
    with torch.no_grad():
        for x, y in val_loader:
            correct += (model(x).argmax(1) == y).sum().item()
    model.train()
    ```
    """
    relevant = [model for model in modes.models if model.modules]
    if not relevant:
        raise NotApplicable("no layer of the model behaves differently in training and in evaluation mode")
    evaluated = [model for model in relevant if model.evaluation_forwards > 0]
    if not evaluated:
        raise NotApplicable(f"no evaluation was seen in {count(modes.steps, 'observed step')}")
    worst = max(evaluated, key=_share)
    yield Measured(
        _share(worst),
        limits.max_share,
        f"{worst.train_mode_evaluations} of {count(worst.evaluation_forwards, 'evaluation forward')} of {worst.model} "
        "ran in training mode",
    )
    if effect is not None and effect.output_change == 0 and effect.training_loss == effect.evaluation_loss:
        return
    for model in evaluated:
        layers = [layer for layer in model.modules if layer.evaluation_on > 0]
        if layers and _share(model) > limits.max_share and not _on_purpose(model, modes):
            yield _finding(model, layers, effect, limits)


def _share(model: ModelModes) -> float:
    return min(1.0, model.train_mode_evaluations / max(1, model.evaluation_forwards))


def _on_purpose(model: ModelModes, modes: Modes) -> bool:
    """Monte Carlo dropout, or samples of a model that is trained against another one."""
    monte_carlo = 2 * model.repeated_evaluations >= model.train_mode_evaluations
    return monte_carlo or (modes.adversarial and not model.measured_evaluations)


def _finding(model: ModelModes, layers: Sequence[ModuleMode], effect: ModeEffect | None, limits: Limits) -> Finding:
    drops = [layer for layer in layers if layer.role == "dropout"]
    norms = [layer for layer in layers if layer.role == "norm"]
    does = []
    if drops:
        does.append(f"{listing([named(layer.name) for layer in drops], 3)} dropped elements")
    if norms:
        many = "used batch statistics and changed the running ones"
        does.append(f"{listing([named(layer.name) for layer in norms], 3)} {many}")
    detail = [f"{layer.kind} {named(layer.name)}" for layer in layers[:5]]
    told = ""
    if effect is not None and effect.training_loss is not None and effect.evaluation_loss is not None:
        told = (
            f"; on one batch after {count(effect.steps, 'step')} the loss is {number(effect.evaluation_loss)} in "
            f"evaluation mode and {number(effect.training_loss)} in training mode"
        )
        if effect.decisions_changed is not None:
            detail.append(
                f"{percent(effect.decisions_changed)} of the decisions differ between the modes on that batch"
            )
    if model.train_location is not None:
        detail.append(f"the mode was last set by train() in line {model.train_location.line}")
    else:
        detail.append("a new model is in training mode, and eval() was not called on it")
    return Finding(
        message=(
            f"{model.train_mode_evaluations} of {count(model.evaluation_forwards, 'evaluation forward')} of "
            f"{model.model} ran in training mode, where {' and '.join(does)}{told}"
        ),
        where=model.model,
        location=model.evaluation_location or model.location,
        measured=_share(model),
        limit=limits.max_share,
        confidence=Confidence.CONFIRMED,
        detail=tuple(detail),
    )
