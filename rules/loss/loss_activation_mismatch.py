"""LOS102: a loss receives what its formula is not made for."""

from __future__ import annotations

import math
from collections.abc import Iterator

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
from auditor.evidence import Location, LossSite, LossSites, MisfitCall, Remedy, RemedyKind, Source

from ..symptoms import NOT_LEARNING
from ..words import count, number

JUDGED = ("nll_loss", "kl_div", "binary_cross_entropy_with_logits", "cross_entropy", "poisson_nll_loss")
RATES = ("Exp", "Softplus")  # what makes a rate positive; its logarithm needs no such thing
LINEAR = ("Addmm", "Mm", "Bmm", "Baddbmm", "Addbmm", "Convolution", "MkldnnLinear")
# Operations whose result cannot have been meant as log-probabilities, by their names in the graph.
LAYERS = ("Addmm", "Mm", "Bmm", "Baddbmm", "Addbmm", "Convolution", "MkldnnLinear", "Relu", "LeakyRelu", "Elu", "Gelu",
          "Silu", "Tanh", "Sigmoid", "Softplus")  # fmt: skip


class Limits(Options):
    max_row_error: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Rows whose log-sum-exp differs from 0 by no more than this are log-probabilities.",
    )
    min_calls: int = Field(3, ge=1, description="Looked-at calls of one loss that have to agree.")


@rule(
    "LOS102",
    "loss-activation-mismatch",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, "initial-loss"),
    fix="""Give each loss what it is made for: raw outputs to `cross_entropy` and `binary_cross_entropy_with_logits`,
    `log_softmax(x, dim=1)` to `nll_loss` and `kl_div`, `sigmoid(x)` to `binary_cross_entropy`.""",
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.NLLLoss.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.KLDivLoss.html",
    ),
    remedies=(
        RemedyKind.LEAVE_OUT,
        RemedyKind.LOG_PROBABILITIES,
    ),
)
def loss_activation_mismatch(sites: LossSites, source: Source | None, limits: Limits) -> Judgement:
    """The last activation does not fit the loss: probabilities for logits, or the reverse.

    ## What it does

    Looks at what `nll_loss`, `kl_div`, `binary_cross_entropy_with_logits`, `cross_entropy` and `poisson_nll_loss`
    really received, and at the operation in the graph that made it; and at the same in losses written by hand.

    ## Why is it bad?

    Nothing fails, the number just means something else. `nll_loss` of raw outputs is minus one output: it falls
    without end while the other classes are never pushed down. `nll_loss` of probabilities hardly has a gradient. A
    sigmoid before `binary_cross_entropy_with_logits` is applied twice: the loss cannot fall below 0.313 for
    positives and 0.693 for negatives, however good the model is. `kl_div` of probabilities is no divergence.
    `poisson_nll_loss` takes its input for the logarithm of the rate: what was made positive before can then never
    predict less than one event.

    ## How it is measured

    By identity, over at least `min-calls` looked-at calls, on the values and on the name of the operation that made
    them (views and copies looked through):

    - `nll_loss`, `kl_div`: the input comes straight out of a layer, an activation or a softmax, some of its values
      are positive, and its rows are no log-probabilities (their log-sum-exp is not 0 within `max-row-error`);
    - `kl_div`, `nn.KLDivLoss`: by the source, the input is a softmax, where the call was not among the observed steps;
    - `kl_div`: targets that are negative without `log_target=True`, or positive with it;
    - `binary_cross_entropy_with_logits`: the input comes straight out of a sigmoid or softmax;
    - `cross_entropy`: the input comes straight out of a sigmoid (a softmax is `double-softmax`);
    - `poisson_nll_loss`: with `log_input=True`, its default, the input comes out of `exp` or `softplus`, or cannot be
      negative while targets below 1 occur; with `log_input=False`, it is a layer's raw output and has been negative;
    - formulas by hand, from the loss back to the model: a sigmoid or softmax goes into another sigmoid; or chosen raw
      outputs, `-logits[rows, labels].mean()`, are all that the loss consists of.

    ## When it may be wrong

    - ReLU outputs used as logits, soft targets and scaled activations (`5 * tanh(x)`) pass: only the operation
      counts, not the range of the values.
    - Weighted log-probabilities, as in a focal loss written with `nll_loss`, are not normalised, and right: products
      are not judged.
    - A sigmoid of a sigmoid inside the model, where gates are made, is not looked at.
    - `nll_loss` used to pick a column out of raw outputs, with the normaliser added by hand, is right as well: where
      the loss has further terms, the rule says inconclusive.

    ## How to fix

    ```python
    loss = F.cross_entropy(net(x), y)                        # net ends in a Linear layer
    loss = F.nll_loss(F.log_softmax(net(x), dim=1), y)       # the same
    loss = F.binary_cross_entropy_with_logits(net(x), y)     # and no sigmoid in the network
    loss = F.kl_div(F.log_softmax(net(x), dim=1), probabilities, reduction="batchmean")
    ```
    """
    judged = [site for site in sites.sites if site.function in JUDGED and site.calls > 0]
    seen = [site for site in judged if site.calls >= limits.min_calls]
    written = list(_written(seen, source))
    by_hand = [*_by_hand(sites, seen, limits)]
    if not judged and not written and not by_hand:
        raise NotApplicable("no loss that takes logits or log-probabilities was called")
    if not seen and not written and not by_hand:
        most = max(site.calls for site in judged)
        raise Inconclusive(f"needs {limits.min_calls} looked-at calls of one loss, saw {most}")
    found = [(site, finding) for site in seen for finding in _findings(site, limits)]
    yield Measured(
        float(len(found) + len(written) + len(by_hand)),
        0.0,
        f"{count(len(seen), 'loss call site')} seen, {len(found)} given what does not fit",
    )
    yield from map(_unseen, written)
    yield from by_hand
    unsure = False
    for site, finding in found:
        if site.function == "nll_loss" and not sites.covered and _operation(site) in LAYERS:
            unsure = True
        else:
            yield finding
    if unsure and not written:
        raise Inconclusive("nll_loss receives raw outputs, but the loss has further terms that may normalise them")


def _written(seen: list[LossSite], source: Source | None) -> Iterator[MisfitCall]:
    """Calls that are wrong as they are written; those that were observed are judged by what they received."""
    known = {(site.location.file, site.location.line) for site in seen if site.location is not None}
    for call in source.softmax_divergences if source is not None else ():
        if (call.location.file, call.location.line) not in known:
            yield call


def _unseen(call: MisfitCall) -> Finding:
    return Finding(
        message=f"kl_div receives {call.text} where it needs log-probabilities: of probabilities it is no divergence",
        where="kl_div",
        location=call.location,
        measured=1.0,
        limit=0.0,
        confidence=Confidence.SUSPECTED,
        detail=("read in the source: the observed steps did not come to this call",),
        remedies=(),
    )


def _by_hand(sites: LossSites, seen: list[LossSite], limits: Limits) -> Iterator[Finding]:
    """Formulas that torch's loss functions have no part in."""
    known = {site.operation_location for site in seen if _operation(site) in ("Sigmoid", "Softmax", "_SafeSoftmax")}
    for twice in sites.twice:
        softmaxes = twice.inner.endswith("Softmax") and twice.outer in ("Softmax", "LogSoftmax", "Logsumexp")
        if softmaxes or twice.calls < limits.min_calls or (twice.location in known and twice.location is not None):
            continue
        inner = "sigmoid" if twice.inner == "Sigmoid" else "softmax"
        yield _formula(
            f"the loss applies {_spoken(twice.outer)} to what is the output of a {inner} already: it takes values "
            "between 0 and 1 for logits, so that no answer can be sure",
            twice.layer,
            twice.location or twice.loss_location,
            twice.calls,
        )
    raw = sites.raw
    if raw is not None and raw.calls >= limits.min_calls and not any(site.function == "nll_loss" for site in seen):
        layer = f" of {raw.layer}" if raw.layer else ""
        yield _formula(
            f"the loss is nothing but the chosen raw outputs{layer}, without a logarithm of probabilities: it has no "
            "minimum, and the other classes are never pushed down",
            raw.layer,
            raw.location,
            raw.calls,
        )


def _spoken(outer: str) -> str:
    names = {"Sigmoid": "a sigmoid", "LogSigmoid": "a log-sigmoid", "LogSoftmax": "a log-softmax"}
    return names.get(outer, "a softmax" if "oftmax" in outer else "log-sum-exp")


def _formula(text: str, layer: str, location: Location | None, calls: int) -> Finding:
    return Finding(
        message=text,
        where=layer or "loss",
        location=location,
        measured=1.0,
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        detail=(f"in {count(calls, 'step')} looked at, by the graph of the loss",),
        remedies=(),
    )


def _findings(site: LossSite, limits: Limits) -> Iterator[Finding]:
    made_by = _operation(site)
    if site.function == "binary_cross_entropy_with_logits" and made_by in ("Sigmoid", "Softmax", "_SafeSoftmax"):
        yield _finding(site, f"{_received(site)} and applies a sigmoid again: {_binary_floor(site)}")
    elif site.function == "cross_entropy" and made_by == "Sigmoid":
        classes = _classes(site)
        floor = math.log1p((classes - 1) / math.e)
        limit = (
            f"with {classes} classes the loss cannot fall below {number(floor)}" if classes > 1 else "nothing is left"
        )
        yield _finding(site, f"{_received(site)} as its logits: {limit}")
    elif site.function == "poisson_nll_loss":
        yield from _rates(site, made_by)
    elif site.function in ("nll_loss", "kl_div"):
        error = site.row_error
        positive = site.input_max > 1e-4
        unfit = error is not None and not abs(error) <= limits.max_row_error and math.isfinite(site.input_max)
        if unfit and positive and (made_by in LAYERS or made_by in ("Softmax", "_SafeSoftmax")):
            yield _finding(
                site,
                f"{_received(site)} where it needs log-probabilities: values reach {number(site.input_max)}, and "
                f"log-sum-exp of a row is off 0 by up to {number(error or 0.0)}",
            )
        if site.function == "kl_div" and site.targets:
            yield from _targets(site)


def _rates(site: LossSite, made_by: str) -> Iterator[Finding]:
    """Of counts: the input is a rate where its logarithm is wanted, or the reverse."""
    positive = site.lower is not None and site.lower >= 0
    if site.log_input and (made_by in RATES or (positive and site.targets > 0 and site.target_min < 1)):
        yield _finding(
            site,
            f"takes its input for the logarithm of the rate, and receives the output of {made_by.lower()}, which is "
            "never negative: no rate below 1 can be predicted",
            fix="Say that the input is the rate itself, `F.poisson_nll_loss(rate, counts, log_input=False)`, or give "
            "it the raw output.",
        )
    elif not site.log_input and made_by in LINEAR and site.input_min < 0:
        yield _finding(
            site,
            f"is told log_input=False and receives the raw output of a layer, down to {number(site.input_min)}: a rate "
            "has no logarithm below 0",
            fix="Leave `log_input=True`, or make the rate positive, `F.softplus(x)`.",
        )


def _targets(site: LossSite) -> Iterator[Finding]:
    if not site.log_target and site.target_max <= 0 and site.target_min < -1e-3:
        yield _finding(
            site,
            f"gets log-probabilities as targets (from {number(site.target_min)} to {number(site.target_max)}) and "
            "takes them for probabilities",
            fix="Say that the targets are logarithms: `F.kl_div(input, target, log_target=True)`.",
        )
    elif site.log_target and site.target_min >= 0 and site.target_max > 1e-3:
        yield _finding(
            site,
            f"is told log_target=True and gets probabilities as targets (from {number(site.target_min)} to "
            f"{number(site.target_max)})",
            fix="Drop `log_target=True`, or give it `target.log()`.",
        )


def _operation(site: LossSite) -> str:
    return site.operation.removesuffix("0").removesuffix("1").removesuffix("Backward")


def _applied_twice(site: LossSite) -> bool:
    """The model's own activation is one too many; else it is the loss that wants another input."""
    return site.function in ("binary_cross_entropy_with_logits", "cross_entropy")


def _received(site: LossSite) -> str:
    layer = f" of {site.operation_layer}" if site.operation_layer else ""
    names = {
        "Sigmoid": "the output of a sigmoid",
        "Softmax": "the output of a softmax",
        "_SafeSoftmax": "the output of a softmax",
    }
    return f"receives {names.get(_operation(site), f'the output{layer} as it is')}"


def _binary_floor(site: LossSite) -> str:
    """Least loss with inputs in [0, 1]: 0 for the negatives and 1 for the positives."""
    share = site.target_mean
    if not site.targets or not 0 <= share <= 1:
        return "with logits in [0, 1] no answer can be sure"
    floor = share * math.log1p(math.exp(-1)) + (1 - share) * math.log(2)
    return f"with these targets the loss cannot fall below {number(floor)}"


def _classes(site: LossSite) -> int:
    return site.input_shape[1] if len(site.input_shape) > 1 else 1


def _finding(site: LossSite, text: str, fix: str | None = None) -> Finding:
    place = site.operation_location if fix is None else None
    detail = [
        f"{count(site.calls, 'call')} looked at: values from {number(site.input_min)} to {number(site.input_max)}",
        f"made by {_operation(site) or 'an unknown operation'}"
        + (f" in line {place.line}" if place is not None else "")
        + (f"; the loss is in line {site.location.line}" if place is not None and site.location is not None else ""),
    ]
    return Finding(
        message=f"{site.function} {text}",
        where=site.operation_layer or site.function,
        location=(place if _applied_twice(site) else None) or site.location or place,
        measured=1.0,
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        detail=tuple(detail),
        fix=fix,
        remedies=_remedies(site),
    )


FORMS = ("nll_loss", "kl_div", "poisson_nll_loss")  # logarithms or what they are of


def _remedies(site: LossSite) -> tuple[Remedy, ...]:
    """What is squashed twice is squashed once; nll_loss gets what it needs."""
    if _applied_twice(site):
        subject = _operation(site).lower().removeprefix("_safe")
        return (Remedy(kind=RemedyKind.LEAVE_OUT, subject=subject, site=site.operation_location),)
    if site.function == "nll_loss" and _operation(site) in ("Softmax", "_SafeSoftmax"):
        return (Remedy(kind=RemedyKind.LOG_PROBABILITIES, subject="softmax", site=site.operation_location),)
    return (Remedy(kind=RemedyKind.LOG_PROBABILITIES, site=site.location),) if site.function in FORMS else ()
