"""MOD108: biases that the batch norm behind them takes away again."""

from __future__ import annotations

from auditor.declare import Confidence, Finding, Judgement, Measured, NotApplicable, Severity, rule
from auditor.evidence import LayerChains

from ..words import count, listing, named


@rule(
    "MOD108",
    "bias-before-norm",
    severity=Severity.NOTE,
    fix="Leave the bias out where a batch norm follows: `nn.Conv2d(16, 32, 3, bias=False)`.",
    references=(
        "https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html",
        "https://arxiv.org/abs/1502.03167",
    ),
)
def bias_before_norm(chains: LayerChains) -> Judgement:
    """A layer with a bias feeds a batch norm, which subtracts that bias again.

    ## What it does

    Follows the autograd graph from every batch norm back to the layer that made its input, and looks whether that layer
    has a trained bias.

    ## Why is it bad?

    It is waste, not a fault. Batch norm subtracts the mean of its input, and with it any constant: the bias has no
    effect, its gradient is zero up to rounding, and the norm's own bias does its work. It costs memory, a little time,
    and room in the optimizer's state.

    ## How it is measured

    By identity on the executed graph: the norm's input is the very output of a linear or convolutional layer with a
    trained bias, that output goes nowhere else, and the norm uses the statistics of its batch.

    ## When it may be wrong

    - Batch norms in evaluation mode are left out: with fixed statistics a bias does matter.
    - Layer norm and group norm are left out too, as they average over several channels.
    - Pretrained weights may come with such biases. They do no harm.

    ## How to fix

    ```python
    self.block = nn.Sequential(
        nn.Conv2d(16, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
    )
    ```
    """
    if chains.norms < 1:
        raise NotApplicable("no batch norm used the statistics of its batch in the training forward")
    elements = sum(max(0, each.bias) for each in chains.biased)
    yield Measured(
        float(elements), 0.0, f"{count(elements, 'bias element')} in front of {count(chains.norms, 'batch norm')}"
    )
    if not chains.biased:
        return
    first = chains.biased[0]
    layers = listing([named(each.layer) for each in chains.biased], 4)
    yield Finding(
        message=(
            f"{layers}: {count(elements, 'bias element')} without effect, because a batch norm follows that subtracts "
            "them again"
        ),
        where=first.layer,
        location=first.location,
        measured=float(elements),
        limit=0.0,
        confidence=Confidence.CONFIRMED,
    )
