"""What the program is fed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part


class Channel(Frozen):
    mean: float
    std: float
    min: float
    max: float


def is_flag(kind: str, channel: Channel) -> bool:
    """Whether a column of a table goes from 0 to 1, as one-hot ones do: it has the place and scale that it should."""
    return kind == "features" and channel.min == 0 and channel.max == 1


class Inputs(Part):
    """Statistics of the floating-point input of the model over the first observed batches."""

    kind: Literal["image", "features", "sequence", "other"]
    shape: tuple[int, ...] = Field(description="Of one batch.")
    dtype: str = "float32"
    samples: int
    mean: float
    std: float
    min: float
    max: float
    channels: tuple[Channel, ...] = Field(
        (), description="Per channel (image) or feature (table, sequence); the first 64."
    )
    worst_channel: int | None = Field(None, description="Index with the largest |mean|/std.")
    binary_share: float = Field(0.0, description="Share of values that are exactly 0 or 1.")
    zero_share: float = 0.0
    nonfinite: int = 0
    scale_ratio: float | None = Field(
        None,
        description="Largest over smallest standard deviation of features, constant and binary ones left out.",
    )
    widest: int | None = Field(None, description="The feature with the largest standard deviation.")
    narrowest: int | None = None
    prepared: bool = Field(
        False, description="The model shifts or scales the features itself; the three above are of its first layer."
    )
    further: bool = Field(
        False, description="Not the first such tensor of the call, which is ordinary, but another one that is not."
    )
    grey_step: float | None = Field(
        None, description="Distance of neighbouring values in an image that holds at most 256 evenly spaced ones."
    )
    first_layer: str = Field("", description="Name of the first module with parameters to see the input.")
    first_layer_kind: str = ""
    normalized_first: bool = Field(False, description="The first such module is a normalization layer.")
    location: Location | None = Field(None, description="Where the data enter: the loader, else the model call.")
    model_location: Location | None = None


class NonfiniteBatch(Frozen):
    """The first batch in which one tensor held NaN or infinity."""

    place: str = Field(description="Where the tensor is in the batch, e.g. '0' or 'image'.")
    batch: int = Field(description="Number of the batch, from 0, as the loader handed them out.")
    nan: int
    infinite: int
    sample: int = Field(description="The first such row of the batch.")
    feature: int | None = Field(None, description="The first such column of it, for a table.")
    features: int = Field(0, description="Columns concerned.")
    target: bool = Field(False, description="The batch's last tensor: most likely the targets.")


class Batches(Part):
    """What the training loader handed out, batch by batch; without one, what the model was called with."""

    loader: str = Field(description="Empty: the loop has none.")
    batches: int
    rows: int
    nonfinite: tuple[NonfiniteBatch, ...] = ()
    nonfinite_batches: int = 0
    lost: int = Field(0, description="Of these: the loop gave them up before backward(), or a GradScaler its step.")
    lost_whole: int = Field(0, description="The same of batches without such values.")
    features: int = Field(0, description="Columns of the table that the batches hold, 0 where they hold none.")
    constant: tuple[int, ...] = Field((), description="Columns with one and the same value in every row, the first 64.")
    constants: int = 0
    location: Location | None = None


class Targets(Part):
    """Continuous targets as a regression loss received them over the first observed steps."""

    function: str
    values: int
    mean: float
    std: float
    min: float
    max: float
    location: Location | None = Field(None, description="The loss call.")
    data_location: Location | None = Field(None, description="The training loader.")


class Labels(Part):
    """Class labels as the loss function received them, and how well each class is predicted at the end."""

    classes: int
    counts: tuple[int, ...] = Field(description="Training labels per class; of the whole dataset when `complete`.")
    complete: bool = Field(False, description="Counted over the whole training set instead of the batches seen.")
    held_out_counts: tuple[int, ...] = ()
    seen: tuple[int, ...] = Field((), description="Per class, labels in the last third of the observed steps.")
    hits: tuple[int, ...] = Field((), description="Per class, how many of `seen` were predicted right.")
    predicted: tuple[int, ...] = Field((), description="Per class, how often it was predicted there.")
    late_batches: int = Field(0, description="Batches of at least 8 labels in the last third of the observed steps.")
    uniform_batches: int = Field(0, description="Those of them in which every sample got the same prediction.")
    weighted_loss: bool = False
    class_weights: tuple[float, ...] = Field(
        (), description="Per class, as the loss function received them; () without, or where they are per sample."
    )
    weighted_sampler: bool = False
    per_position: bool = Field(False, description="Dense labels (segmentation, tokens) rather than one per sample.")
    ignore_index: int | None = None
    location: Location | None = Field(None, description="The loss call that received them.")
    data_location: Location | None = Field(None, description="The training loader or dataset.")


class Tag(Frozen):
    """One of several yes-or-no labels that each sample has."""

    ones: int = Field(description="Samples that have it.")
    seen: int = Field(description="Samples that have it in the last third of the calls.")
    hits: int = Field(description="How many of `seen` were answered yes.")
    answered: int = Field(description="How often yes was answered in the last third of the calls, rightly or not.")


class Tags(Part):
    """Several yes-or-no labels for each sample, as a binary cross entropy received them, and which are found."""

    steps: int = Field(description="Calls of the loss, those of the steps after the observed ones included.")
    rows: int
    tags: tuple[Tag, ...]
    weighted: bool = Field(False, description="The loss received weights.")
    location: Location | None = Field(None, description="The loss call.")
