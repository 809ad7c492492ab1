"""In which order the training loader hands out its samples."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from auditor.evidence.base import Location, Part


class SampleOrder(Part):
    """The first pass of a loader over a data set that has indices; all observed batches of a stream and of a loop that
    makes its batches itself."""

    loader: str
    feed: Literal["loader", "stream", "loop"] = "loader"
    sampler: str
    samples: int | None = None
    sequential: bool = Field(description="The sampler goes through the dataset as it lies.")
    distributed: bool = Field(False, description="A DistributedSampler, which shuffles by seed + epoch.")
    shuffles: bool = Field(False, description="The sampler is meant to shuffle.")
    own: bool = Field(False, description="The sampler is none of torch's: the script's own, or a library's.")
    passes: int = Field(1, description="Passes over the loader that were seen.")
    compared: int = Field(0, description="Samples at the start of the first pass that a second one was compared with.")
    repeated: bool = Field(False, description="The second pass began with the same samples in the same order.")
    labels: tuple[int, ...] = Field((), description="Samples per class, of those with a label.")
    continuous: bool = Field(False, description="The classes are equally frequent ranges of continuous targets.")
    neighbours_equal: int = Field(0, description="Pairs of successive samples with the same label.")
    batch_classes: float = Field(0.0, description="Mean number of different labels in a batch.")
    alikeness: float | None = Field(
        None,
        description="Mean squared distance of the inputs of successive samples of one class, over that of two of its "
        "samples at random: about 1 where the order within a class means nothing.",
    )
    alikeness_pairs: int = 0
    batches: int = 0
    purity: float | None = Field(
        None, description="Equal labels within batches: 0 as by chance, 1 where each batch has one class."
    )
    drift: float | None = Field(
        None, description="Total variation distance of the classes of the first and the last third of the batches."
    )
    pass_drift: float | None = Field(
        None, description="The same distance over a whole pass of a stream, which was gone through for that."
    )
    pass_samples: int = 0
    drift_statistic: float = Field(0.0, description="Pearson's chi-squared of these two thirds.")
    drift_freedom: int = Field(0, description="Its degrees of freedom.")
    location: Location | None = None


class OrderControl(Part):
    """The recorded batches, trained on from the same weights in their order, and with their samples mixed; of a sampler
    of the script's own, with the same batches in another order."""

    natural: tuple[float, ...] = Field(description="Losses afterwards on some mixed batches, after the order it has.")
    mixed: tuple[float, ...] = Field(description="Losses afterwards on these, after mixed batches.")
    steps: int = Field(description="Batches that were trained on.")
    whole: bool = Field(False, description="Batches were put into another order as they are, none of them mixed.")
    level: float = Field(description="Mean of the first observed losses.")
    fidelity: float | None = None
    location: Location | None = None


class PairedLoaders(Part):
    """Two loaders whose batches are taken together: one gives the model's inputs, the other what its outputs are
    compared with. Their data sets are of one size."""

    inputs: str = Field(description="The loader that the model's inputs are of.")
    targets: str = Field(description="The one that the targets of the loss are of.")
    function: str = Field(description="What compares them.")
    steps: int = Field(description="Of the first ones: such in which they were compared.")
    compared: int = Field(description="Samples of the first pass over both, in the order in which they were drawn.")
    apart: int = Field(description="Of these, such that have another number in the other data set.")
    location: Location | None = None


class TargetBlock(Part):
    """A regression on rows in their order: the block of them, if there is one, of which simple statistics of the inputs
    foretell nothing, by a linear regression on rows that it was not fitted on. Correlations are those of foretold
    targets with the true ones."""

    rows: int
    first: int = Field(0, description="Row at which the block begins.")
    last: int = Field(0, description="Row behind it: 0 where no block was found.")
    inside: float = Field(0.0, description="Correlation in the block, fitted on the other rows.")
    own: float = Field(0.0, description="The same, fitted on other rows of the block.")
    outside: float = Field(0.0, description="Correlation in the other rows.")
    apart: float = Field(
        0.0, description="Largest distance between the distributions in and outside, of targets and foretold ones."
    )
    location: Location | None = None
