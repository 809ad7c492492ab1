"""Several processes that train one model together, one rank each."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part


class RankPrint(Frozen):
    """What one rank was fed and how its weights went, as fingerprints that can be laid beside those of others."""

    rank: int
    dataset: str = Field("", description="Class, length and some items, read with fixed random numbers; '': not known.")
    samples: int | None = Field(None, description="Length of the dataset.")
    sampler: str = ""
    pass_samples: int | None = Field(None, description="Samples that the rank's sampler hands out in one pass.")
    replacement: bool = Field(False, description="The sampler draws with replacement.")
    by: Literal["index", "content"] = Field("index", description="What the numbers in `batches` are.")
    batches: tuple[tuple[int, ...], ...] = Field((), description="Of the first pass: the samples of each batch.")
    digests: tuple[str, ...] = Field((), description="Of all trained weights (a strided sample), after each step.")
    levels: tuple[float, ...] = Field((), description="L2 norm of the same sample, after each step.")
    buffers: int = Field(0, description="Buffers of the models, running statistics for example: not compared.")
    parallel: Literal["", "ddp", "sharded"] = Field("", description="How the model is spread over the ranks.")
    location: Location | None = Field(None, description="The training loader.")
    model_location: Location | None = None


class Ranks(Part):
    world_size: int
    rank: int = Field(description="Of the process that this audit followed.")
    prints: tuple[RankPrint, ...] = Field(description="Its own, and on rank 0 those of the others that were audited.")
    waited: float = Field(0.0, description="Seconds that rank 0 waited for the others.")
