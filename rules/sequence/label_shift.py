"""SEQ102: the labels of a language model are shifted by the wrong number of tokens."""

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
from auditor.evidence import Remedy, RemedyKind, TokenInfluence, TokenLabels, TokenSite

from ..symptoms import NOT_LEARNING
from ..words import count, percent


class Limits(Options):
    min_share: float = Field(
        0.99, gt=0.5, le=1, description="Share of labels equal to the token at one offset, for that to be their offset."
    )
    max_other_share: float = Field(
        0.9,
        gt=0,
        lt=1,
        description="Largest share that may equal the next token besides: more, and text repeats itself.",
    )
    min_labels: int = Field(200, ge=10, description="Labels that have to be compared.")
    max_change: float = Field(
        1e-3, gt=0, lt=1, description="Largest change of earlier outputs for the model to count as causal, relative."
    )


@rule(
    "SEQ102",
    "label-shift",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, "initial-loss"),
    fix="""Shift once, in one place: `F.cross_entropy(model(ids[:, :-1]).transpose(1, 2), ids[:, 1:])`; a model that
    shifts inside gets `labels=ids` as they are.""",
    remedies=(RemedyKind.SHIFT_LABELS,),
    references=(
        "https://huggingface.co/docs/transformers/main/en/tasks/language_modeling",
        "https://github.com/karpathy/nanoGPT/blob/master/train.py",
    ),
)
def label_shift(tokens: TokenLabels, influence: TokenInfluence | None, limits: Limits) -> Judgement:
    """Each position is asked for its own token, or for the one after the next, instead of the next.

    ## What it does

    Compares the labels that the loss received with the tokens that entered the embedding, at the same position and
    at those around it.

    ## Why is it bad?

    Without a shift, the model is asked for the token that it has just been given: the loss goes to zero and nothing
    is learned but copying. Shifted twice - once by the loop, once inside the model - each position is asked for the
    token after the next: the loss falls, slower, and generated text skips every other token. Neither fails.

    ## How it is measured

    By identity: at least `min-share` of `min-labels` labels equal the token at one offset from their own position,
    counting where slices of the logits begin, and at most `max-other-share` of them equal the next token. It fails

    - for an offset of two or more, when no other loss asks for the next token;
    - for an offset of zero, when an experiment shows that the model is causal (replacing later tokens changes earlier
      outputs by less than `max-change`) and that a position does depend on its own token.

    ## When it may be wrong

    - Masked language models and denoisers hide what they ask for: their labels differ from the input. An autoencoder
      that reads all of a text and writes it again is not causal. Both pass.
    - Labels from before a position (copying after a delay) are a task of their own: not judged.
    - Heads that predict several tokens ahead are fine beside one that predicts the next.

    ## How to fix

    ```python
    logits = model(ids)                                                # (batch, length, vocabulary)
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    ```
    """
    seen = [site for site in tokens.sites if _compared(site) >= limits.min_labels]
    if not seen:
        most = max((_compared(site) for site in tokens.sites), default=0)
        raise Inconclusive(f"needs {limits.min_labels} labels to be compared, saw {most}")
    offsets = [(site, _offset(site, limits)) for site in seen]
    known = [offset for _, offset in offsets if offset is not None]
    if not known:
        raise NotApplicable("the labels are not the input tokens, at any offset")
    yield Measured(float(known[0]), 1.0, f"the labels are the input tokens {_words(known[0])}")
    if 1 in known:
        return
    for site, offset in offsets:
        if offset is not None and offset >= 2:
            yield _finding(site, offset)
    if max(known) == 0:
        yield from _copying(next(site for site, offset in offsets if offset == 0), influence, limits)


def _copying(site: TokenSite, influence: TokenInfluence | None, limits: Limits) -> Judgement:
    if influence is None or influence.own is None or not influence.cuts or not influence.after > 0:
        raise Inconclusive(
            "the labels are the input tokens themselves; whether the model is causal, which makes that a fault, could "
            "not be tested"
        )
    if influence.before / influence.after > limits.max_change:
        raise NotApplicable("the model sees all of a text and writes it again: a reconstruction, not a prediction")
    if influence.own > influence.noise:
        yield _finding(site, 0)


def _compared(site: TokenSite) -> int:
    return max((offset.compared for offset in site.offsets), default=0)


def _share(site: TokenSite, offset: int) -> float:
    found = next((each for each in site.offsets if each.offset == offset and each.compared > 0), None)
    return min(1.0, found.equal / found.compared) if found is not None else 0.0


def _offset(site: TokenSite, limits: Limits) -> int | None:
    """The one offset of the labels; 1 wherever the next token fits as well."""
    if _share(site, 1) >= limits.min_share:
        return 1
    if _share(site, 1) > limits.max_other_share:
        return None
    fitting = [each.offset for each in site.offsets if _share(site, each.offset) >= limits.min_share]
    return fitting[0] if len(fitting) == 1 else None


def _words(offset: int) -> str:
    if offset == 0:
        return "at the same position"
    return f"{count(abs(offset), 'position')} {'after' if offset > 0 else 'before'} it"


def _finding(site: TokenSite, offset: int) -> Finding:
    task = (
        "a causal model is asked for the token that it has just been given"
        if offset == 0
        else f"each position is asked for the token {offset} ahead, so they are shifted {offset} times instead of once"
    )
    return Finding(
        message=(
            f"{percent(_share(site, offset))} of the labels of {site.function} are the input tokens {_words(offset)} "
            f"({percent(_share(site, 1))} are the next token): {task}"
        ),
        where=site.embedding,
        location=site.location,
        measured=float(offset),
        limit=1.0,
        confidence=Confidence.CONFIRMED,
        detail=(f"{_compared(site)} labels compared with what entered {site.embedding}",),
        remedies=(Remedy(kind=RemedyKind.SHIFT_LABELS, amount=float(offset), site=site.location),),
    )
