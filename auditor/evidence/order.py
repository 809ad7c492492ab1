"""In which order the training loader hands out its samples."""

from __future__ import annotations

from pydantic import Field

from auditor.evidence.base import Location, Part


class SampleOrder(Part):
    loader: str
    sampler: str
    samples: int | None = None
    sequential: bool = Field(description="The sampler goes through the dataset as it lies.")
    distributed: bool = Field(False, description="A DistributedSampler, which shuffles by seed + epoch.")
    shuffles: bool = Field(False, description="The sampler is meant to shuffle.")
    passes: int = Field(1, description="Passes over the loader that were seen.")
    compared: int = Field(0, description="Samples at the start of the first pass that a second one was compared with.")
    repeated: bool = Field(False, description="The second pass began with the same samples in the same order.")
    labels: tuple[int, ...] = Field((), description="Samples per class, of those in the first pass with a class label.")
    neighbours_equal: int = Field(0, description="Pairs of successive samples with the same label.")
    batch_classes: float = Field(0.0, description="Mean number of different labels in a batch.")
    alikeness: float | None = Field(
        None,
        description="Mean squared distance of the inputs of successive samples of one class, over that of two of its "
        "samples at random: about 1 where the order within a class means nothing.",
    )
    alikeness_pairs: int = 0
    location: Location | None = None
