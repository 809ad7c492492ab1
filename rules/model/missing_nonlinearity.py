"""MOD105: two linear layers in a row that can do no more than one."""

from __future__ import annotations

from auditor.declare import Confidence, Finding, Judgement, Measured, Severity, rule
from auditor.evidence import LayerChains, LinearPair, Remedy, RemedyKind

from ..symptoms import NOT_LEARNING
from ..words import count, named


@rule(
    "MOD105",
    "missing-nonlinearity",
    severity=Severity.WARNING,
    explains=NOT_LEARNING,
    fix="""Put an activation between them: `x = F.relu(self.fc1(x))`, or `nn.ReLU()` in the Sequential; if none is
    wanted, one layer does the same.""",
    remedies=(RemedyKind.NONLINEARITY,),
    references=(
        "https://www.deeplearningbook.org/contents/mlp.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.ReLU.html",
    ),
)
def missing_nonlinearity(chains: LayerChains) -> Judgement:
    """Two linear layers follow each other without a nonlinearity in between, so together they are one linear layer.

    ## What it does

    Follows the autograd graph of the first training steps from every linear and convolutional layer back to what made
    its input.

    ## Why is it bad?

    A linear map of a linear map is a linear map. Without a nonlinearity between them the second layer adds weights and
    time, but nothing that the network could express: it is shallower than it looks.

    ## How it is measured

    By identity, on the executed graph and not on the order in which layers are declared. It fails when the output of
    one layer, at most reshaped, permuted, dropped out or (between two convolutions) averaged by a pooling, is the whole
    input of the next one and is used nowhere else, and the inner width is at least both outer ones. Where it lies
    between the outer widths, and the two hold more weights than the one layer which computes the same, that is a note:
    the first layer may be a projection on purpose. But where no other weights take part, so that the whole network is
    one linear map, only an inner width below both outer ones is a purpose.

    A batch norm that keeps running statistics is a scale and a shift of each feature in evaluation, so what lies around
    it is one linear layer there as well. With one in between, only an inner width of at least both outer ones fails:
    a linear bottleneck with its norm is built on purpose.

    ## When it may be wrong

    - Low-rank factorisations (LoRA, bottlenecks), depthwise and grouped convolutions, and kernels split by direction
      or size (1x3 and 3x1, 3x3 and 1x1) pass.
    - Anything else between the layers passes: norms of each sample, attention, max pooling, pixel shuffling, residual
      additions.
    - Frozen layers pass: a new head on a pretrained last layer is linear, but cheap.
    - Overparameterised linear networks, studied for their own sake, are reported. Waive them.

    ## How to fix

    ```python
    self.net = nn.Sequential(
        nn.Linear(20, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    ```
    """
    useless = [pair for pair in chains.pairs if _is_useless(pair, chains.whole)]
    yield Measured(
        float(len(useless)),
        0.0,
        f"{count(len(useless), 'pair')} of {count(chains.linear, 'linear layer')} without a nonlinearity in between",
    )
    remedy = Remedy(kind=RemedyKind.NONLINEARITY, layers=tuple(dict.fromkeys(pair.first for pair in useless)))
    for pair in useless:
        yield _finding(pair, chains.whole, remedy)


def _is_wide(pair: LinearPair) -> bool:
    return pair.inner >= max(pair.before, pair.after)


def _is_useless(pair: LinearPair, whole: bool) -> bool:
    """One layer does the same with fewer weights; a rank below both widths is a bottleneck, and does something."""
    if pair.norm:
        return _is_wide(pair)
    if whole or pair.averaged:
        return (whole and pair.inner >= min(pair.before, pair.after)) or (_is_wide(pair) and "Conv" in pair.second_kind)
    return _is_wide(pair) or (pair.inner >= min(pair.before, pair.after) and pair.weights > pair.needed > 0)


def _between(pair: LinearPair) -> str:
    if pair.norm:
        return "only a batch norm" + (" and a dropout" if pair.dropout else "")
    return "only an average" if pair.averaged else "only a dropout" if pair.dropout else "nothing"


def _finding(pair: LinearPair, whole: bool, remedy: Remedy) -> Finding:
    between = _between(pair)
    detail = [f"widths: {pair.before} in, {pair.inner} between, {pair.after} out"]
    if pair.norm:
        detail.append("in evaluation the norm is a scale and a shift of each feature, and so a part of that one layer")
    elif pair.weights > pair.needed > 0:
        detail.append(f"one layer with {pair.needed} weights does what these {pair.weights} do")
    return Finding(
        message=(
            f"{named(pair.first)} ({pair.first_kind}) feeds {named(pair.second)} ({pair.second_kind}) with {between} "
            f"in between: {'as there is no other, the network is' if whole else 'together they are'} one linear "
            f"{'map' if whole else 'layer'}"
        ),
        where=pair.second,
        location=pair.location,
        measured=1.0,
        limit=0.0,
        severity=None if _is_wide(pair) or whole else Severity.NOTE,
        confidence=Confidence.CONFIRMED,
        detail=tuple(detail),
        remedies=(remedy,),
    )
