"""Samples that are in more than one split."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part


class Split(Frozen):
    name: str
    role: Literal["training", "held-out"]
    samples: int
    hashed: int
    method: str = Field(description="'indices', 'arrays', 'files', 'items' or 'batches': how samples were read.")
    location: Location | None = None
    complete: bool = True


class SamplePair(Frozen):
    training_index: int
    held_out_index: int
    training_label: str = ""
    held_out_label: str = ""
    thumbnail: str = Field("", description="PNG data URI of the training sample, images only.")
    held_out_thumbnail: str = ""


class Overlap(Frozen):
    training: str
    held_out: str
    shared: int = Field(description="Held-out samples that also are training samples, bit for bit.")
    held_out_samples: int
    identity: bool = Field(False, description="Proved by indices into one dataset, not by content.")
    labels_agree: float | None = Field(None, description="Share of the pairs with equal labels, if labels are known.")
    pairs: tuple[SamplePair, ...] = ()
    location: Location | None = Field(None, description="Where the held-out loader or dataset is made.")


class Leakage(Part):
    splits: tuple[Split, ...]
    overlaps: tuple[Overlap, ...] = ()
    duplicates_in_training: int = Field(0, description="Training samples equal to an earlier training sample.")
    trivial_samples: int = Field(0, description="Near-constant samples left out.")
    sample_values: int = Field(0, description="Numbers in one sample: few values make chance repeats likely.")
