"""Token models: what their labels are, what padding does, and what a position can see."""

from __future__ import annotations

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part
from auditor.evidence.experiments import PairedReplay


class LabelSite(Frozen):
    """Class labels of one loss call site, over every observed step."""

    function: str
    location: Location | None = None
    reduction: str = "mean"
    ignore_index: int
    calls: int
    empty: int = Field(description="Calls in which every label was the ignored one.")
    first_empty: int | None = Field(None, description="Step of the first such call.")
    labels: int
    ignored: int = Field(description="Of the labels, those equal to the ignored one.")


class EmptyMean(Frozen):
    """A loss by hand that is divided by a count, a whole number at every step, which was 0 at some."""

    location: Location | None = None
    calls: int
    empty: int = Field(description="Steps in which the count was 0 and the loss was not finite.")
    first_empty: int


class IgnoredLabels(Part):
    sites: tuple[LabelSite, ...]
    means: tuple[EmptyMean, ...] = ()


class Offset(Frozen):
    """Labels compared with the input token that many positions after the one the prediction is made at."""

    offset: int
    equal: int
    compared: int


class TokenSite(Frozen):
    """One loss call site with a label for each token, at sampled steps, and the embedding that its labels fit best.

    A label counts when the loss had a gradient at it.
    """

    function: str
    location: Location | None = None
    calls: int
    embedding: str = Field(description="Name of the layer that received the tokens.")
    streams: int = Field(1, description="Embeddings that received tokens in this shape.")
    shape: tuple[int, ...] = Field(description="(batch, length) of the tokens, time-first where the loop has them so.")
    offsets: tuple[Offset, ...] = ()
    counted: int = Field(0, description="Labels that had a gradient.")
    pad: int | None = Field(None, description="Id of the padding token, where that is certain.")
    pad_reason: str = ""
    padded: int = Field(0, description="Positions of padding, the token of each row that is next to its text left out.")
    padded_counted: int = Field(0, description="Of these, those whose label had a gradient.")


class TokenLabels(Part):
    sites: tuple[TokenSite, ...]


class PaddedSite(Frozen):
    """Outputs with one row a position, judged by a loss, in batches of padded sequences."""

    module: str
    location: Location | None = None
    calls: int
    reason: str = Field("", description="How it is known which positions are padding.")
    told: bool = Field(True, description="By something else than the padding itself: lengths, a mask, a name.")
    blank: bool = Field(True, description="A loss was called with targets that are seen to be blank there as well.")
    padded: int = Field(description="Padded positions, the one of each row next to its sequence left out.")
    padded_counted: int = Field(description="Of these, those whose output had a gradient.")
    counted: int = Field(description="All positions whose output had a gradient.")
    strength: float = Field(
        0.0, description="Root mean square of the gradient at padding over that elsewhere, largest over the calls."
    )


class PaddedOutputs(Part):
    sites: tuple[PaddedSite, ...]


class TokenInfluence(Part):
    """Calls of the model in evaluation mode with some tokens replaced where they enter the embedding.

    Changes are the largest ones at the positions in question, relative to the size of the outputs.
    """

    embedding: str
    series: bool = Field(False, description="No tokens, but numbers whose targets are later values of themselves.")
    shape: tuple[int, ...]
    shifted: float | None = Field(None, description="Share of labels that equal the next input token.")
    same: float | None = Field(None, description="Share of labels that equal the input token itself.")
    later: float | None = Field(None, description="Share of labels that equal the token after the next.")
    cuts: int = Field(0, description="Positions behind which all tokens were replaced, one at a time.")
    before: float = Field(0.0, description="Change at counted positions before the replaced tokens.")
    after: float = Field(0.0, description="Change at the positions of the replaced tokens.")
    leaking: int = Field(0, description="Cuts with a change before them beyond the noise.")
    own: float | None = Field(None, description="Change at a position when its own token alone was replaced.")
    noise: float = Field(0.0, description="Difference of two equal calls, and rounding.")
    mask: str = Field("", description="Name of the module that was given a mask marking the padding.")
    told_unused: bool = Field(False, description="No output changes when each row is told the padding of another one.")
    mask_made: bool = Field(False, description="Or that makes one itself, and lays it over its hidden states.")
    pad: int | None = None
    indices: str = Field("", description="The argument of indices, padded with one of them, where it is no sequence.")
    padded: int = Field(0, description="Padded positions in the batch.")
    appended: int = Field(
        0,
        description="Positions of further padding appended instead, to sequences of features that no embedding makes.",
    )
    pad_change: float | None = Field(None, description="Change at real positions when the padding held other tokens.")
    real_change: float | None = Field(None, description="The same when as many real tokens were replaced instead.")
    recurrent: bool = Field(False, description="A layer that reads forward in time carries on what stands behind.")
    local_layer: str = Field(
        "", description="Kind of a convolution or recurrent layer, which sees padding next to text."
    )
    layer: str = Field("", description="First layer that lets it through, where that was found.")
    layer_location: Location | None = None
    location: Location | None = Field(None, description="Where the model is called or built.")
    loss_location: Location | None = None


class PlacedTokens(Part):
    """A model whose outputs do not depend on the order of its tokens, and replays in which it is told their places."""

    embedding: str
    shape: tuple[int, ...]
    exchanged: int = Field(description="Tokens that stood at other places when no output changed.")
    change: float = Field(description="Largest change of the outputs then, relative to their size: rounding.")
    mixing: float = Field(description="The same at other positions, or of the sample, when one token was replaced.")
    location: Location | None = Field(None, description="Where the model is called or built.")
    looks: tuple[PairedReplay, ...] = Field(
        (), description="Treated: a sinusoidal code of its place is added to each token where it leaves the embedding."
    )
    fidelity: float | None = Field(None, description="Relative error of the replay's own first loss.")


class TiedPair(Frozen):
    """An input embedding and an output layer of one model."""

    embedding: str
    head: str
    declared: str = Field("", description="The flag that declares them tied, '' without one.")
    tied: bool = Field(description="They are the same parameter, or share its memory.")
    equal_start: bool = Field(False, description="Bit-equal before the first step.")
    equal_end: bool = Field(False, description="Bit-equal after the last observed step.")
    was_tied: bool = Field(False, description="They shared one parameter once, or one of them did with a predecessor.")
    tie_location: Location | None = Field(None, description="Where that was made so.")
    trained: bool = Field(True, description="An optimizer holds both.")
    shape: tuple[int, ...] = ()
    embedding_location: Location | None = None
    location: Location | None = Field(None, description="Where the output layer is built.")


class TiedWeights(Part):
    pairs: tuple[TiedPair, ...]
