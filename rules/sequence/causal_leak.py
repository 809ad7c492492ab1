"""SEQ101: a position of a language model sees the tokens that it has to predict."""

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
from auditor.evidence import RemedyKind, TokenInfluence

from ..symptoms import NOT_LEARNING
from ..words import count, number, percent


class Limits(Options):
    max_change: float = Field(
        1e-3,
        gt=0,
        lt=1,
        description="Largest change at earlier positions, relative to that at the positions of the replaced tokens.",
    )
    min_shifted: float = Field(
        0.99, gt=0.5, le=1, description="Share of labels that are the next token, for a model to be one of next tokens."
    )


@rule(
    "SEQ101",
    "causal-leak",
    severity=Severity.ERROR,
    explains=(*NOT_LEARNING, "initial-loss"),
    fix="""Hide what follows: `F.scaled_dot_product_attention(q, k, v, is_causal=True)`, or
    `scores.masked_fill(torch.triu(torch.ones(T, T, dtype=torch.bool), 1), float("-inf"))` before the softmax.""",
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.Transformer.html",
        "https://arxiv.org/abs/1706.03762",
    ),
    remedies=(RemedyKind.CAUSAL_MASK,),
)
def causal_leak(influence: TokenInfluence, limits: Limits) -> Judgement:
    """The model predicts the next token while it can see it.

    ## What it does

    Calls a model that is trained on next tokens in evaluation mode, replaces all tokens behind a position by others,
    and looks whether the outputs up to that position stay what they were.

    ## Why is it bad?

    A position that sees the next token learns to copy it. The loss falls far below what any honest model could
    reach, and so does that on held-out text, which leaks in the same way. Generated text, for which there is no next
    token to copy, is nonsense. Causes: a missing or transposed mask, a mask of another length, a mean or a norm over
    the whole sequence, a bidirectional recurrent layer, a convolution with symmetric padding.

    ## How it is measured

    By experiment, with the model as its own control, for cuts at a quarter, half and three quarters of the length.
    Only where at least `min-shifted` of the labels equal the token that follows in the input; only outputs whose
    label has a gradient are looked at. It fails when some of these change by more than the rounding of two calls and
    by more than `max-change` of the change at the replaced positions. The ids are exchanged where they enter the
    embedding, so masks made from them stay the same.

    Series of numbers are looked at in the same way where the targets of a regression loss are, bit for bit, the input
    some positions on, and the model returns a prediction for each position.

    ## When it may be wrong

    - Masked language models, encoders, taggers and text-to-text encoders have other labels: not applicable.
    - In a prefix language model the prefix sees all of itself; its labels do not count there, so it passes.
    - In an encoder-decoder only the decoder's own input is replaced.
    - Experts that choose their tokens, and drop some when they are full, let later tokens decide over earlier ones:
      that is a true, if small, leak.

    ## How to fix

    ```python
    mask = nn.Transformer.generate_square_subsequent_mask(x.size(1))
    h = self.encoder(x, mask=mask, is_causal=True)
    ```
    """
    if influence.shifted is None or not influence.shifted >= limits.min_shifted:
        share = "" if influence.shifted is None else f" ({percent(influence.shifted)} of them are)"
        raise NotApplicable(f"the labels are not the tokens that follow in the input{share}")
    if not influence.cuts:
        raise Inconclusive("the model returns no output for each token, or no label that counts lies before a cut")
    if not influence.after > 0:
        raise Inconclusive("the outputs do not depend on the tokens at all")
    ratio = influence.before / influence.after
    yield Measured(
        ratio, limits.max_change, f"earlier outputs change by {number(ratio)} of what the replaced positions change by"
    )
    if influence.leaking > 0 and ratio > limits.max_change and influence.before > influence.noise:
        yield _finding(influence, ratio, limits)


def _finding(influence: TokenInfluence, ratio: float, limits: Limits) -> Finding:
    what = "values" if influence.series else "tokens"
    place = f" (first in {influence.layer})" if influence.layer else ""
    detail = [
        f"largest change of earlier outputs {number(influence.before)} of their size, of those of the replaced {what} "
        f"{number(influence.after)}; two equal calls differ by {number(influence.noise)}",
    ]
    if influence.shifted is not None:
        one = what.removesuffix("s")
        detail.append(f"{percent(influence.shifted)} of the labels are a {one} that follows in {influence.embedding}")
    return Finding(
        message=(
            f"replacing only later {what} changes the predictions before them{place}, at {influence.leaking} of "
            f"{count(influence.cuts, 'cut')}, by {number(ratio)} of the change behind the cut: the model sees the "
            f"{what} that it has to predict"
        ),
        where=influence.layer or influence.embedding,
        location=influence.layer_location or influence.location or influence.loss_location,
        measured=ratio,
        limit=limits.max_change,
        confidence=Confidence.CONFIRMED,
        detail=tuple(detail),
    )
