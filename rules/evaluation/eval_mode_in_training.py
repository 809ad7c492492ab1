"""EVL102: an eval() that was meant for an evaluation is never undone, and training goes on in evaluation mode."""

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

from ..words import count, listing, named, number


class Limits(Options):
    max_forgotten: int = Field(
        0, ge=0, description="Most training forwards that may run in an evaluation mode meant for an evaluation."
    )


@rule(
    "EVL102",
    "eval-mode-in-training",
    severity=Severity.ERROR,
    explains=(
        "lr-too-high",
        "exploding-gradients",
        "nonfinite-loss",
        "cannot-overfit",
        "dead-units",
        "class-imbalance",
        "loss-oscillation",
        "weight-growth",
    ),
    fix="""Go back to training mode after every evaluation: put `model.train()` at the start of each epoch, or at the
    end of the function that evaluates.""",
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.train",
        "https://docs.pytorch.org/docs/stable/notes/autograd.html#evaluation-mode-nn-module-eval",
    ),
    remedies=(RemedyKind.TRAINING_MODE,),
)
def eval_mode_in_training(modes: Modes, effect: ModeEffect | None, limits: Limits) -> Judgement:
    """An eval() for an evaluation is never undone: training goes on without dropout and with frozen statistics.

    ## What it does

    Follows the calls of `train()` and `eval()` together with the forwards, and looks at the mode in which the steps
    after an evaluation train.

    ## Why is it bad?

    From the first evaluation on, dropout is off, so the model overfits, and norm layers normalize by statistics that no
    longer follow the weights: activations drift, the loss rises or becomes NaN. Nothing crashes.

    ## How it is measured

    By the order of events. An `eval()` is meant for what comes right after it. When that is an evaluation (once the
    model has trained in training mode, any forward without gradients on other data: an example that is shown, a sample
    that is drawn), and then
    forwards that a backward passes through follow while the model is still in evaluation mode, they were not meant to
    be there. The model must have a dropout or norm layer which is not frozen. If the model was never in training mode
    before, because the first evaluation came ahead of the first step, the finding is a warning. Where the loop
    can be replayed, one batch is also passed in both modes: the message says by how much the loss differs.

    ## When it may be wrong

    - A model that is put in evaluation mode for its training, as a frozen backbone is, passes: there the training comes
      right after `eval()`. So does a model of which only some layers are in evaluation mode.
    - Norm layers whose weights are frozen do not count, and neither does a model without dropout and norm layers.
    - An evaluation that ends the training (early stopping) is followed by no step and passes.
    - If the outputs in both modes are equal bit for bit, it passes.

    ## How to fix

    ```python
    for epoch in range(epochs):
        model.train()
        for x, y in train_loader:
            step(model, x, y)
        model.eval()
        evaluate(model, val_loader)
    ```
    """
    relevant = [model for model in modes.models if _layers(model)]
    if not relevant:
        raise NotApplicable("no layer of the model behaves differently in training and in evaluation mode")
    trained = [model for model in relevant if model.training_forwards > 0]
    if not trained:
        raise NotApplicable("no training forward of such a model was seen")
    worst = max(trained, key=lambda model: model.forgotten)
    chosen = "; the others in evaluation mode were put there on purpose" if worst.chosen else ""
    yield Measured(
        worst.forgotten,
        limits.max_forgotten,
        f"{worst.forgotten} of {count(worst.training_forwards, 'training forward')} of {worst.model} ran in an "
        f"evaluation mode that was left from an evaluation{chosen}",
    )
    if effect is not None and effect.output_change == 0 and effect.training_loss == effect.evaluation_loss:
        return
    for model in trained:
        layers = [layer for layer in _layers(model) if layer.training_off > 0]
        if layers and model.forgotten > limits.max_forgotten:
            yield _finding(model, layers, effect, limits)


def _layers(model: ModelModes) -> list[ModuleMode]:
    return [layer for layer in model.modules if not layer.frozen]


def _finding(model: ModelModes, layers: Sequence[ModuleMode], effect: ModeEffect | None, limits: Limits) -> Finding:
    drops = [named(layer.name) for layer in layers if layer.role == "dropout"]
    norms = [named(layer.name) for layer in layers if layer.role == "norm"]
    does = []
    if drops:
        does.append(f"{listing(drops, 3)} no longer drop{'s' if len(drops) == 1 else ''} anything")
    if norms:
        does.append(f"{listing(norms, 3)} keep{'s' if len(norms) == 1 else ''} old statistics")
    switched = model.trained_before > 0
    since = f"since step {model.forgotten_since + 1} " if model.forgotten_since is not None else ""
    detail = [f"{layer.kind} {named(layer.name)}" for layer in layers[:5]]
    if switched:
        detail.append(f"{count(model.trained_before, 'training forward')} before that ran in training mode")
    else:
        detail.append("no training forward before that ran in training mode")
    told = ""
    if effect is not None and effect.training_loss is not None and effect.evaluation_loss is not None:
        told = (
            f"; on one batch after {count(effect.steps, 'step')} the loss is {number(effect.training_loss)} in "
            f"training mode and {number(effect.evaluation_loss)} in evaluation mode"
        )
    return Finding(
        message=(
            f"{since}{model.model} trains in evaluation mode, because the eval() for an evaluation is not undone: in "
            f"{count(model.forgotten, 'training forward')} {' and '.join(does)}{told}"
        ),
        where=model.model,
        location=model.eval_location or model.location,
        measured=model.forgotten,
        limit=limits.max_forgotten,
        severity=Severity.ERROR if switched else Severity.WARNING,
        confidence=Confidence.CONFIRMED if switched else Confidence.SUSPECTED,
        detail=tuple(detail),
        since=model.forgotten_since if switched else 0,
    )
