"""SEQ105: a batch has no label left that counts."""

from __future__ import annotations

from auditor.declare import Confidence, Finding, Judgement, Measured, NotApplicable, Severity, rule
from auditor.evidence import EmptyMean, IgnoredLabels, LabelSite

from ..symptoms import NOT_LEARNING
from ..words import count, percent


@rule(
    "SEQ105",
    "all-labels-ignored",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, "nonfinite-loss"),
    fix="""Skip such batches, or sum and divide by the labels that count:
    `F.cross_entropy(logits, labels, reduction="sum") / (labels != -100).sum().clamp(min=1)`.""",
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html",
        "https://github.com/pytorch/pytorch/issues/70348",
    ),
)
def all_labels_ignored(ignored: IgnoredLabels) -> Judgement:
    """A loss call averages over no label at all, because every one of them is ignored.

    ## What it does

    Counts, in every call of a loss with class labels, how many labels are not the ignored one.

    ## Why is it bad?

    The mean over no label is 0/0: the loss is NaN, though its gradient is zero and the weights survive. Every number
    that it enters is NaN as well: the mean of the epoch, a sum with other losses, the comparison that picks the best
    checkpoint (`nan < best` is never true), early stopping; and guards against NaN end the run. It happens when a
    prompt fills the whole context, when truncation cuts the answer off, when a mask is inverted, or when a crop has
    nothing but unlabelled pixels - perhaps only once in a thousand batches. Where every batch is like that nothing
    is ever learned.

    ## How it is measured

    By identity, over all observed calls and not only sampled ones: the number of labels equal to `ignore_index` is
    the number of labels. In a loss by hand, `(loss * counted).sum() / counted.sum()`, the tensor that it is divided by
    is looked at: where that is a whole number at every step, it fails if it was 0 at one and the loss NaN. No limits.

    ## When it may be wrong

    - With `reduction="sum"` or `"none"`, an empty batch gives 0 and does no harm: only where *all* calls are empty
      does that fail.
    - A loss that is computed, found NaN and left out of the backward pass by the loop would be reported: waive it in
      place.

    ## How to fix

    ```python
    counted = labels != -100
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / counted.sum().clamp(min=1)
    ```
    """
    sites = [site for site in ignored.sites if site.calls > 0]
    if not sites and ignored.means:
        empty = sum(mean.empty for mean in ignored.means)
        yield Measured(float(empty), 0.0, f"{count(empty, 'step')} whose loss is divided by a count of 0")
    yield from map(_of_mean, ignored.means)
    if not sites and ignored.means:
        return
    if not sites:
        raise NotApplicable("no loss with class labels was called")
    calls, empty = sum(site.calls for site in sites), sum(min(site.empty, site.calls) for site in sites)
    labels, out = sum(site.labels for site in sites), sum(site.ignored for site in sites)
    share = min(1.0, out / labels) if labels else 0.0
    yield Measured(
        float(empty),
        0.0,
        f"{empty} of {count(calls, 'call')} without a label that counts; {percent(share)} of the labels are ignored",
    )
    for site in sites:
        if site.empty >= site.calls or (site.empty > 0 and site.reduction == "mean"):
            yield _finding(site)


def _of_mean(mean: EmptyMean) -> Finding:
    return Finding(
        message=(
            f"at {mean.empty} of {count(mean.calls, 'step')} the loss is divided by a count of 0, first at step "
            f"{mean.first_empty + 1}: no label is left that counts, and the mean over nothing is NaN"
        ),
        where="loss",
        location=mean.location,
        measured=float(mean.empty),
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        fix="""Leave out what has no label that counts before it is put into a batch, or divide by
        `counted.sum().clamp(min=1)`.""",
    )


def _finding(site: LabelSite) -> Finding:
    every = site.empty >= site.calls
    which = f"all {site.calls} calls" if every else f"{site.empty} of {count(site.calls, 'call')}"
    effect = "the mean over nothing is NaN" if site.reduction == "mean" else "there is nothing to learn from"
    first = f", first in step {site.first_empty + 1}" if site.first_empty is not None and not every else ""
    return Finding(
        message=(
            f"in {which} of {site.function} every label is the ignored one ({site.ignore_index}){first}: {effect}"
        ),
        where=site.function,
        location=site.location,
        measured=float(max(site.empty, 1)),
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        detail=(f"{site.ignored} of {count(site.labels, 'label')} are ignored",),
    )
