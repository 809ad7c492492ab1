"""LOS107: the last operation cannot produce the targets."""

from __future__ import annotations

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
from auditor.evidence import LossSite, LossSites, Remedy, RemedyKind

from ..symptoms import NOT_LEARNING
from ..words import count, number, percent

REGRESSION = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "gaussian_nll_loss", "-")
SCALING = ("Mul", "Div", "Neg")


class Limits(Options):
    max_outside_share: float = Field(
        0.01, ge=0, lt=1, description="Largest share of the target values that may lie outside the range."
    )
    max_unreachable: float = Field(
        0.02, ge=0, lt=1, description="Largest share of the targets' variance that may be out of reach by that."
    )
    min_targets: int = Field(32, ge=2, description="Target values that have to be seen.")


@rule(
    "LOS107",
    "restricted-output-range",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, "dead-units"),
    fix="""Let the last layer be linear, `return self.head(h)`, or bring the targets into the range of the last
    activation.""",
    references=(
        "https://www.deeplearningbook.org/contents/mlp.html",
        "https://docs.pytorch.org/docs/stable/nn.html#non-linear-activations-weighted-sum-nonlinearity",
    ),
    remedies=(RemedyKind.LEAVE_OUT,),
)
def restricted_output_range(sites: LossSites, limits: Limits) -> Judgement:
    """The last activation bounds the output, and targets lie outside of these bounds.

    ## What it does

    Compares, for regression losses, the range of the operation that made the prediction (ReLU: from 0 up, sigmoid: 0
    to 1, tanh: -1 to 1, softplus, exp, clamp, the state of an LSTM or GRU, ...) with the targets that were seen.

    ## Why is it bad?

    No weights of any size make a ReLU return a negative number. Every target outside the range keeps an error that
    training cannot remove, pushes the unit ever further into its flat part, and so also kills the gradient for the
    others. A network that should predict standardized targets with a ReLU at its end loses the lower half of them.

    ## How it is measured

    By identity: the range follows from the operation's name in the graph (views, copies and constant factors looked
    through; a product of two bounded results, and the hidden state of a recurrent layer, have theirs as well), not from
    the outputs that happened to come. It fails when more than `max-outside-share` of the target
    values lie outside, and their mean squared distance from the range is more than `max-unreachable` of the variance of
    the targets, over at least `min-targets` values.

    ## When it may be wrong

    - An activation that is shifted afterwards (`sigmoid(x) - 0.5`), or scaled by something learned, has another last
      operation: not judged. A constant factor (`5 * sigmoid(x)`) widens the range.
    - Small negative readings of a positive quantity are noise: they are out of reach, but hold next to no variance,
      and pass.
    - Targets that the model itself makes (with a gradient) are not looked at.

    ## How to fix

    ```python
    def forward(self, x):
        return self.head(torch.relu(self.body(x)))  # no activation after the last layer
    ```
    """
    judged = [site for site in sites.sites if site.function in REGRESSION and site.targets > 0]
    if not judged:
        raise NotApplicable("no regression loss against given targets was seen")
    bounded = [site for site in judged if site.lower is not None or site.upper is not None]
    seen = [site for site in bounded if site.targets >= limits.min_targets]
    if bounded and not seen:
        most = max(site.targets for site in bounded)
        raise Inconclusive(f"needs {limits.min_targets} target values, saw {most}")
    if not seen:
        yield Measured(0.0, limits.max_outside_share, "the last operation has no bounds")
        return
    worst = max(seen, key=_share)
    yield Measured(
        _share(worst), limits.max_outside_share, f"{percent(_share(worst))} of the targets lie outside {_range(worst)}"
    )
    for site in seen:
        if _share(site) > limits.max_outside_share and site.unreachable > limits.max_unreachable:
            yield _finding(site, limits)


def _share(site: LossSite) -> float:
    return min(1.0, site.outside / site.targets)


def _range(site: LossSite) -> str:
    low = "-infinity" if site.lower is None else number(site.lower)
    high = "infinity" if site.upper is None else number(site.upper)
    return f"[{low}, {high}]"


def _a(kind: str) -> str:
    return f"a {kind}" if kind == "GRU" else f"an {kind}"


def _finding(site: LossSite, limits: Limits) -> Finding:
    operation = site.operation.removesuffix("0").removesuffix("1").removesuffix("Backward") or "the last operation"
    operation = "the hidden state of an LSTM" if operation == "MkldnnRnnLayer" else operation
    operation = f"the hidden state of {_a(site.recurrent)}" if site.recurrent else operation
    operation = "a bounded activation times a constant" if operation in SCALING else operation
    seen = f"{number(site.target_min)} to {number(site.target_max)}"
    return Finding(
        message=(
            f"the prediction ends in {operation}, which only gives values in {_range(site)}, but "
            f"{percent(_share(site))} of the targets ({seen}) lie outside: {percent(site.unreachable)} of their "
            "variance is out of reach"
        ),
        where=site.operation_layer or "output",
        location=site.operation_location or site.location,
        measured=_share(site),
        limit=limits.max_outside_share,
        confidence=Confidence.CONFIRMED,
        detail=(f"{site.outside} of {count(site.targets, 'value')} in {count(site.calls, 'call')} looked at",),
        remedies=()
        if site.recurrent
        else (Remedy(kind=RemedyKind.LEAVE_OUT, subject=operation.lower(), site=site.operation_location),),
    )
