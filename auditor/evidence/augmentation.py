"""What random augmentation draws: does it differ between workers and between epochs?"""

from __future__ import annotations

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part


class Unmirrored(Frozen):
    """The target value that knows sides best, of samples whose images are mirrored and whose targets stay."""

    pairs: int = Field(description="Pairs of draws of one sample, of which one image is the other one mirrored.")
    direction: str
    value: int = Field(description="Number of the value among the continuous ones of a sample, from 0.")
    samples: int = Field(description="Samples at the side of the value's median where fewer lie.")
    correlation: float = Field(
        description="Rank correlation of the distance from the median with the size of the image's asymmetry, at the "
        "side where it is lower."
    )


class Augmentation(Part):
    """Samples of the training dataset, drawn several times. Shares are of the random ones among those compared."""

    loader: str
    workers: int
    items: int = Field(description="Samples that were drawn several times in the main process.")
    random: int = Field(description="Those that were not the same each time.")
    seeded: int = Field(
        0,
        description="Of those that were: samples of a dataset that declares augmentation, which seeds it anew on every "
        "access, and has another variation of the sample for another seed.",
    )
    chance: float = Field(0.0, description="Share of independent draws of one random sample that are equal.")
    turned: int = Field(0, description="Pairs of draws of one sample that differ by a flip or a turn of image or mask.")
    torn: int = Field(0, description="Of these, such with only one of the two turned so, and the other as it was.")
    unmirrored: Unmirrored | None = None
    collated: int = Field(
        0, description="Rows of a batch of these samples that are known to be one of them, from each collated alone."
    )
    mispaired: int = Field(0, description="Of these, such that have the label of another one of them beside them.")
    worker_items: int = Field(0, description="Random samples that two workers were asked for.")
    worker_equal: int = Field(0, description="Those that both workers drew alike.")
    epoch_items: int = Field(0, description="Random samples that the workers of two epochs were asked for.")
    epoch_equal: int = Field(0, description="Those that came out alike in both epochs.")
    delivered_items: int = Field(0, description="Samples that the loop got in two of its own passes over the loader.")
    delivered_equal: int = Field(0, description="Those that it got bit for bit alike.")
    location: Location | None = None
