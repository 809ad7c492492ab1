"""LOS105: predictions and targets are broadcast against each other in the loss."""

from __future__ import annotations

import math

from auditor.declare import Confidence, Finding, Judgement, Measured, NotApplicable, Severity, rule
from auditor.evidence import LossSite, LossSites, Remedy, RemedyKind

from ..symptoms import NOT_LEARNING
from ..words import count


@rule(
    "LOS105",
    "broadcast-in-loss",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, "lr-too-high"),
    fix="Give both the same shape: `loss = F.mse_loss(model(x).squeeze(1), y)`, or `y.unsqueeze(1)`.",
    references=(
        "https://docs.pytorch.org/docs/stable/notes/broadcasting.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.MSELoss.html",
    ),
    remedies=(RemedyKind.MATCH_SHAPES,),
)
def broadcast_in_loss(sites: LossSites) -> Judgement:
    """Prediction and target have different shapes, and the loss compares every prediction with every target.

    ## What it does

    Looks at the shapes that element-wise losses receive, and at differences and products written by hand between
    what the model returned and a tensor without gradient.

    ## Why is it bad?

    A prediction of shape (B, 1) minus a target of shape (B,) is no error but a (B, B) matrix of them: of its B²
    entries only B compare a sample with its own target. The mean over all of them is smallest when every prediction
    is the mean of the targets, so that is what the model learns. The loss falls at first, then stalls at the
    variance of the targets.

    ## How it is measured

    By identity: the two shapes are equal but for axes of size 1, they have different numbers of axes, and
    broadcasting makes more entries than either has. Or the same has happened inside the model: there is one target a
    sample, and the prediction is a sum or product of shape (B, B). No limits.

    ## When it may be wrong

    - Scalars, a target of one value, per-channel or per-quantile targets (B, Q) against (B, 1) spread one of the two
      over the other, and pass: the result is no larger than the larger one.
    - All pairs on purpose are written by adding an axis, `a[:, None] - b`: where that is done in the loss itself,
      hand-written differences are not judged. A loss function of torch that gets such shapes is, as torch itself
      warns there.
    - Differences inside the model, and those between two outputs of models, are not looked at.

    ## How to fix

    ```python
    prediction = model(x).squeeze(-1)  # (B,)
    assert prediction.shape == y.shape
    loss = ((prediction - y) ** 2).mean()
    ```
    """
    judged = [site for site in sites.sites if site.calls > 0 and len(site.target_shape) > 0]
    if not judged:
        raise NotApplicable("no loss that compares predictions with targets element by element was seen")
    faulty = [site for site in judged if site.broadcasts > 0]
    yield Measured(
        float(len(faulty)), 0.0, f"{count(len(judged), 'loss call site')} seen, {len(faulty)} with shapes that spread"
    )
    for site in faulty:
        yield _finding(site)


def _finding(site: LossSite) -> Finding:
    if site.input_shape == 2 * site.target_shape:
        return _inside(site)
    values = max(1, math.prod(site.input_shape))
    whole = values**2
    names = {"-": "a difference in the loss", "*": "a product in the loss"}
    return Finding(
        message=(
            f"{names.get(site.function, site.function)} takes a prediction of shape {_shape(site.input_shape)} and a "
            f"target of shape {_shape(site.target_shape)}: they spread to {whole} pairs, of which {values} belong "
            "together"
        ),
        where=site.function if site.function not in names else "loss",
        location=site.location,
        measured=float(site.broadcasts),
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        detail=(f"in {site.broadcasts} of {count(site.calls, 'call')} looked at",),
        remedies=(Remedy(kind=RemedyKind.MATCH_SHAPES, amount=_axes_lacking(site), site=site.location),),
    )


def _inside(site: LossSite) -> Finding:
    """The prediction is one for each pair of samples already."""
    values = math.prod(site.target_shape)
    return Finding(
        message=(
            f"the model gives a prediction of shape {_shape(site.input_shape)} for targets of shape "
            f"{_shape(site.target_shape)}: inside it, terms of shape ({values},) and ({values}, 1) have been added or "
            f"multiplied into {values * values} pairs, of which {values} belong together"
        ),
        where="loss",
        location=site.location,
        measured=float(site.broadcasts),
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        detail=(f"in {site.broadcasts} of {count(site.calls, 'call')} looked at",),
        fix="Give all terms of the prediction one shape before they meet: `bias(u).squeeze(-1)`.",
    )


def _axes_lacking(site: LossSite) -> float | None:
    """Axes of size 1 that the target lacks at its end, negative where the prediction does; None for anything else."""
    given, wanted = site.input_shape, site.target_shape
    if given == (*wanted, 1):
        return 1.0
    return -1.0 if wanted == (*given, 1) else None


def _shape(sides: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, sides))}{',' if len(sides) == 1 else ''})"
