"""SEQ103: padding tokens count in the loss."""

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
from auditor.evidence import PaddedOutputs, PaddedSite, Remedy, RemedyKind, TokenLabels, TokenSite

from ..symptoms import NOT_LEARNING
from ..words import count, number, percent


class Limits(Options):
    max_share: float = Field(
        0.05, ge=0, lt=1, description="Largest share of the labels that count which may belong to padding."
    )
    min_padded: int = Field(20, ge=1, description="Padded positions that have to be seen.")
    min_strength: float = Field(
        0.1,
        gt=0,
        description="Smallest gradient at padded outputs, relative to others', that is one of their own labels.",
    )
    min_error_share: float = Field(0.2, gt=0, le=1, description="From this share on it is an error; below, a warning.")


@rule(
    "SEQ103",
    "padding-in-loss",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, "initial-loss"),
    fix="""Leave padding out: `F.cross_entropy(logits, labels, ignore_index=pad_id)`, or set its labels to -100. Where
    the padding token also ends the text, keep the first one.""",
    remedies=(RemedyKind.IGNORE_LABELS, RemedyKind.IGNORE_PADDING),
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.Embedding.html",
    ),
)
def padding_in_loss(tokens: TokenLabels | None, outputs: PaddedOutputs | None, limits: Limits) -> Judgement:
    """The loss averages over padding as if it were text.

    ## What it does

    Finds the padded positions of each batch, and looks whether their labels had a gradient.

    ## Why is it bad?

    That padding follows padding is learned within a few steps. From then on these positions add nothing but zeros to
    the mean: the loss and the accuracy look better the more padding there is, the gradient of the real tokens is
    divided by all of them, and a batch of short texts teaches less than one of long ones. Generation may learn to
    end at once.

    ## How it is measured

    By identity. The padding token is known where the embedding declares it (`padding_idx`) or where a mask given to
    the model marks exactly the runs of one token at the ends of the rows. A padded position lies in such a run; the
    token next to the text is left out, because it may be the end of the text itself. A position counts when the
    gradient of the loss at its own label is not zero: so `ignore_index`, class weights of 0, and masks multiplied to
    single losses all serve.

    Where the labels are no tokens, or the loss is a formula, the same is asked of the model's outputs: those with one
    row a position that go into a loss function, or into a difference that is squared, position by position. There the
    padding is known by lengths or a mask in the batch, by `pad_sequence`, by a name (`PAD = 0`), or by zeros behind the
    rows of batches that are as wide as their longest row, or that end in vectors of zeros and have none elsewhere
    (a warning then); its gradient has to be `min-strength` of that elsewhere.

    It fails when more than `max-share` of the labels that count are padding, over at least
    `min-padded` padded positions; it is an error from `min-error-share` on.

    ## When it may be wrong

    - Where the padding token is also the end of the text, its first occurrence counts rightly, and is not held
      against it.
    - A model of fixed-width fields, in which the blanks at the end are part of the answer, learns them on purpose.
    - What a mask hides from the model may be what it has to predict. Where targets are seen that differ there, it is no
      padding; in a loss by hand they are not seen, and the finding is a warning.
    - Where nothing tells what is padding, and all batches have one width: not applicable.

    ## How to fix

    ```python
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=pad_id)
    ```
    """
    known = [site for site in (tokens.sites if tokens is not None else ()) if site.pad is not None]
    others = [site for site in (outputs.sites if outputs is not None else ()) if site.padded > 0 and site.counted > 0]
    if not known and not others:
        raise NotApplicable("no padding is declared, or marked by a mask or by lengths, and judged by a loss")
    if known:
        yield from _of_tokens(known, limits)
    if others and not any(site.padded >= limits.min_padded for site in known):
        yield from _of_outputs(others, limits)


def _of_tokens(known: list[TokenSite], limits: Limits) -> Judgement:
    seen = [site for site in known if site.padded > 0 and site.counted > 0]
    if not seen:
        raise NotApplicable("no batch was padded")
    enough = [site for site in seen if site.padded >= limits.min_padded]
    if not enough:
        raise Inconclusive(f"needs {limits.min_padded} padded positions, saw {max(site.padded for site in seen)}")
    worst = max(enough, key=_share)
    yield Measured(
        _share(worst), limits.max_share, f"{percent(_share(worst))} of the labels that count belong to padding"
    )
    for site in enough:
        if _share(site) > limits.max_share:
            yield _finding(site, limits)


def _of_outputs(seen: list[PaddedSite], limits: Limits) -> Judgement:
    enough = [site for site in seen if site.padded >= limits.min_padded]
    if not enough:
        raise Inconclusive(f"needs {limits.min_padded} padded positions, saw {max(site.padded for site in seen)}")
    worst = max(enough, key=_share)
    share = _share(worst)
    yield Measured(share, limits.max_share, f"{percent(share)} of the outputs that count in the loss are at padding")
    for site in enough:
        if _share(site) > limits.max_share and site.strength >= limits.min_strength:
            yield _of_output(site, limits)


def _share(site: TokenSite | PaddedSite) -> float:
    return min(1.0, site.padded_counted / site.counted)


def _finding(site: TokenSite, limits: Limits) -> Finding:
    share = _share(site)
    return Finding(
        message=(
            f"{percent(share)} of the labels that count in {site.function} belong to padding (token {site.pad}): "
            f"{site.padded_counted} of {count(site.padded, 'padded position')} had a gradient"
        ),
        where=site.embedding,
        location=site.location,
        measured=share,
        limit=limits.max_share,
        severity=Severity.ERROR if share >= limits.min_error_share else Severity.WARNING,
        confidence=Confidence.CONFIRMED,
        detail=(
            f"padding is known by {site.pad_reason or 'the embedding'}",
            f"{site.counted} labels counted in {count(site.calls, 'call')} looked at",
        ),
        remedies=(Remedy(kind=RemedyKind.IGNORE_LABELS, amount=site.pad, site=site.location),),
    )


def _of_output(site: PaddedSite, limits: Limits) -> Finding:
    share, sure = _share(site), site.told and site.blank
    return Finding(
        message=(
            f"{percent(share)} of the outputs of {site.module} that count in the loss are at padding: "
            f"{site.padded_counted} of {count(site.padded, 'padded position')} had a gradient"
        ),
        where=site.module,
        location=site.location,
        measured=share,
        limit=limits.max_share,
        severity=Severity.ERROR if sure and share >= limits.min_error_share else Severity.WARNING,
        confidence=Confidence.CONFIRMED if sure else Confidence.SUSPECTED,
        detail=(
            f"padding is known by {site.reason}",
            f"its gradient is {number(site.strength)} times that of other positions, in {count(site.calls, 'call')}",
        ),
        remedies=(Remedy(kind=RemedyKind.IGNORE_PADDING, site=site.location),),
        fix="""Leave padding out of the mean: `((prediction - target) ** 2)[mask].mean()`, or
        `(loss * mask).sum() / mask.sum()` of a loss with `reduction="none"`.""",
    )
