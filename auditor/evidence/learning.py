"""What experiments say about how the loop learns at its rate, and about the noise of its batches."""

from __future__ import annotations

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part
from auditor.evidence.experiments import PairedReplay


class RateLook(Frozen):
    """The same batches from the same weights with the same random numbers, at several rates."""

    factor: float = Field(description="Of the highest rate.")
    control: tuple[float, ...]
    between: tuple[float, ...] = Field((), description="At a quarter of that; empty where the highest did not help.")
    highest: tuple[float, ...]
    still: tuple[float, ...] = Field((), description="At rate zero; empty where the highest did not help.")


class HigherRate(Part):
    """Replay at sixteen times the highest learning rate that was observed, or at 256 times where that is not enough."""

    learning_rate: float
    optimizer: str = ""
    looks: tuple[RateLook, ...]
    planned_steps: int | None = Field(None, description="Optimizer steps of the whole run, where the source says it.")
    fidelity: float | None = None
    location: Location | None = None


class RateAhead(Part):
    """Replay in which the rate rises to what the schedule will reach at its end, beside one at the rate of today."""

    learning_rate: float = Field(description="The highest of the observed steps.")
    peak: float = Field(description="The highest to come, at the end of the loop's plan.")
    calls: int = Field(description="Calls of the scheduler until then.")
    schedule: str
    optimizer: str = ""
    looks: tuple[PairedReplay, ...] = Field(description="`control`: the rate rises; `treated`: it stays.")
    fidelity: float | None = None
    location: Location | None = None


class HeldWeights(Part):
    """Two replays on the same batches: as the loop does, and with the weights held from the middle on.

    What differs between the batches of the held half is the noise of the batches alone, at weights that have been
    trained for a while.
    """

    control: tuple[float, ...]
    held: tuple[float, ...]
    held_from: int = Field(description="The first step whose update is left out.")
    gradients: int = Field(0, description="Gradients measured at the held weights, one per batch.")
    mean_square: float = Field(0.0, description="Mean of their squared norms.")
    square_mean: float = Field(0.0, description="Squared norm of their mean.")
    batch_size: int | None = None
    fidelity: float | None = None
    location: Location | None = None
