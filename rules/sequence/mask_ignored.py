"""SEQ104: a padding mask is given or made, and padding still decides over the outputs."""

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
from ..words import count, number


class Limits(Options):
    max_change: float = Field(
        0.01, gt=0, lt=1, description="Largest change by the padding, relative to that by as many real tokens."
    )
    min_padded: int = Field(8, ge=1, description="Padded positions that the batch has to have.")


@rule(
    "SEQ104",
    "mask-ignored",
    severity=Severity.ERROR,
    explains=NOT_LEARNING,
    fix="""Pass the mask on to every attention and to the pooling, the right way round:
    `encoder(x, src_key_padding_mask=ids == pad_id)` is True at padding.""",
    remedies=(RemedyKind.PADDING_MASK,),
    references=(
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.TransformerEncoder.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiheadAttention.html",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html",
    ),
)
def mask_ignored(influence: TokenInfluence, limits: Limits) -> Judgement:
    """What stands in the padding changes the outputs of real tokens, though a mask marks the padding.

    ## What it does

    Calls the model in evaluation mode on a padded batch, puts other tokens into the padding - behind the mask's
    back, where they enter the embedding - and looks whether the outputs of the real positions stay what they were.

    ## Why is it bad?

    A mask that is inverted lets attention see nothing but padding. One that is all ones, has the wrong axis, or
    never arrives lets each text be mixed with as much padding as the longest text of its batch happens to cause: the
    same text gets other predictions in another batch. Shapes broadcast, nothing fails.

    ## How it is measured

    By experiment, with the model as its own control. Applies where some module is given a tensor that has one value
    at exactly the padded positions and another elsewhere, or an argument called a mask that marks nothing while the
    embedding declares padding (`padding_idx`) and the batch has some, or a tensor of the lengths before the padding
    (with attention or a recurrent layer), or where a model with attention makes such a
    tensor itself and lays it over its hidden states, to pool them for example. It fails when the change is more than
    `max-change` of the change that as many real tokens make, over at least `min-padded` padded positions.

    Sequences of features, which no embedding makes, are judged where a tensor of lengths or a mask tells exactly where
    the zeros behind them begin, and batches differ in their length: zeros are appended, and the same limit holds. Where
    a mask of yes and no marks an end of each row, and something else than zeros was left there, it is exchanged.

    Lists of indices, of the neighbours of nodes for example, are judged where a mask marks their ends and one index
    stands there that real entries have, too: other indices are put there, and the same limit holds.

    ## When it may be wrong

    - Right padding in a causal model needs no mask: earlier positions do not see it. Passed.
    - The outputs of padded positions themselves are not looked at, where outputs have positions.
    - Convolutions and layers that read both ways see the padding next to a text by their nature: not applicable. A
      recurrent layer that reads forward does not: where padding behind a text changes the output, the last position
      was read instead of the text's own. That is a warning, as a decoder may make up for it.
    - Sequences that are padded to one length in all batches are not judged by appending. A model that is told their
      lengths, or given a mask, and of which no output changes by one bit when each row is told those of another one,
      is warned of all the same; it may have the argument for the sake of others.
    - What a mask marks may be meant to be used, as what is known of the future in a forecast: waive it in place.
    - A model that neither gets nor makes a mask, and takes padding for a word, is consistent with itself: not
      applicable.

    ## How to fix

    ```python
    padding = ids == pad_id                                      # True where there is nothing
    h = self.encoder(self.embed(ids), src_key_padding_mask=padding)
    pooled = h.masked_fill(padding[..., None], 0).sum(1) / (~padding).sum(1, keepdim=True)
    ```
    """
    if not influence.mask:
        raise NotApplicable("no mask that marks the padding is given to a module, or laid over hidden states")
    if influence.told_unused:
        yield Measured(0.0, 0.0, "other lengths or another mask change no output")
        yield _unused(influence)
        return
    if influence.local_layer:
        raise NotApplicable(f"a layer of kind {influence.local_layer} sees the padding next to a text by its nature")
    if influence.pad_change is None or influence.real_change is None or influence.padded < limits.min_padded:
        raise Inconclusive(f"needs {limits.min_padded} padded positions in a batch, saw {influence.padded}")
    if not influence.real_change > 0 and influence.pad_change > 0:
        yield Measured(influence.pad_change, 0.0, "padding changes the outputs, and real tokens do not")
        yield _inverted(influence, influence.pad_change)
        return
    if not influence.real_change > 0:
        raise Inconclusive("the outputs do not depend on the tokens at all")
    ratio = influence.pad_change / influence.real_change
    yield Measured(
        ratio, limits.max_change, f"padding changes the outputs by {number(ratio)} of what real tokens change them by"
    )
    if ratio > limits.max_change and influence.appended:
        yield _longer(influence, ratio, limits)
    elif ratio > limits.max_change:
        yield Finding(
            message=(
                f"other {_kind(influence)} in {count(influence.padded, 'padded position')} change the outputs of real "
                f"ones by {number(influence.pad_change)} of their size, {number(ratio)} times what as many real ones "
                f"do, though {influence.mask} {'makes' if influence.mask_made else 'is given'} a mask: it is ignored, "
                "inverted or used in part"
            ),
            where=influence.mask,
            location=influence.location,
            measured=ratio,
            limit=limits.max_change,
            severity=Severity.WARNING if influence.recurrent else None,
            confidence=Confidence.CONFIRMED,
            detail=(_replaced(influence),),
        )


def _kind(influence: TokenInfluence) -> str:
    if influence.indices:
        return "indices"
    return "values" if influence.pad is None else "tokens"


def _replaced(influence: TokenInfluence) -> str:
    if influence.pad is None:
        return "what was left in the padding of other rows was put into it"
    if influence.indices:
        return f"{influence.indices} is padded with {influence.pad}, which real entries have as well"
    return f"the padding token is {influence.pad}, replaced where it enters {influence.embedding}"


def _inverted(influence: TokenInfluence, change: float) -> Finding:
    return Finding(
        message=(
            f"other {_kind(influence)} in {count(influence.padded, 'padded position')} change the outputs by "
            f"{number(change)} of their size, and as many real ones do not at all: the mask of {influence.mask} is "
            "inverted"
        ),
        where=influence.mask,
        location=influence.location,
        measured=change,
        limit=0.0,
        confidence=Confidence.CONFIRMED,
        detail=(_replaced(influence),),
    )


def _unused(influence: TokenInfluence) -> Finding:
    return Finding(
        message=(
            f"{influence.mask} is told where the padding of its sequences begins, and not one output changes when each "
            f"row is told that of another one: what stands in {count(influence.padded, 'padded position')} is read "
            "like the rest"
        ),
        where=influence.mask,
        location=influence.location,
        measured=0.0,
        limit=0.0,
        severity=Severity.WARNING,
        confidence=Confidence.CONFIRMED,
        fix="Use it: `h[torch.arange(len(h)), lengths - 1]` instead of `h[:, -1]`, `pack_padded_sequence(x, lengths)`, "
        "or `key_padding_mask=mask`.",
    )


def _longer(influence: TokenInfluence, ratio: float, limits: Limits) -> Finding:
    return Finding(
        message=(
            f"{count(influence.appended, 'position')} more of padding behind the sequences change the outputs by "
            f"{number(influence.pad_change or 0.0)} of their size, {number(ratio)} times what other real positions do, "
            f"though {influence.mask} is told where the padding begins: that is not used, or used in part"
        ),
        where=influence.mask,
        location=influence.location,
        measured=ratio,
        limit=limits.max_change,
        severity=Severity.WARNING if influence.recurrent else None,
        confidence=Confidence.CONFIRMED,
        detail=("batches differ in their length, so the same sequence gets other outputs in another batch",),
    )
