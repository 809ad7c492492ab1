"""Normalization layers in training: what they normalize over, and what happens to their running statistics."""

from __future__ import annotations

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part


class BatchNorm(Frozen):
    """One batch norm that used the statistics of its batch in a training forward."""

    name: str
    kind: str
    location: Location | None = None
    calls: int = Field(description="Watched training calls.")
    rows: int = Field(description="Median number of samples in a call.")
    fewest_rows: int = 0
    values: int = Field(description="Median number of values that one channel's statistics come from.")
    processes: int = Field(1, description="Processes that share their statistics (SyncBatchNorm).")
    tracked: bool = Field(True, description="It keeps running statistics for evaluation.")
    noise: float | None = Field(
        None,
        description="Variance of a channel's mean between batches over the variance within; measured for few rows.",
    )
    frozen: bool = Field(False, description="In some watched call its weight and bias required no gradient.")
    upstream_trained: bool = Field(True, description="Its input required a gradient then.")
    filled: bool = Field(False, description="Its running statistics were not at their defaults before.")
    mean_shift: float | None = Field(
        None, description="RMS over channels of the running mean's change, in running standard deviations; frozen only."
    )
    variance_ratio: float | None = Field(
        None, description="Median over channels of the running variance's change, as a factor of at least 1."
    )


class BatchNorms(Part):
    steps: int = Field(description="Watched steps.")
    layers: tuple[BatchNorm, ...]


class DropoutShift(Frozen):
    """A batch norm's input with and without dropout, everything else the same."""

    norm: str
    dropout: str = Field("", description="The dropout that was called last before it.")
    p: float | None = None
    ratio: float = Field(description="Variance with dropout over variance without; mean over channels.")
    location: Location | None = None
    dropout_location: Location | None = None


class DropoutShifts(Part):
    """One training forward with dropout and one without, of the same weights on the same batch."""

    samples: int
    dropouts: int = Field(description="Dropout layers with p > 0.")
    norms: int
    repeats: int = Field(1, description="Draws of the dropout that the variance is averaged over.")
    layers: tuple[DropoutShift, ...] = ()
