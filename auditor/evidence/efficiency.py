"""Where the time and the memory of a step go."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from auditor.evidence.base import Location, Part


class DataWait(Part):
    """Seconds that the loop waited for its training batches, step by step."""

    loader: str
    workers: int = 0
    waits: tuple[float, ...] = Field(description="In the loader's __next__, per step; the work of the probe left out.")
    seconds: tuple[float, ...] = Field(
        description="The whole step, from its end to the next; the probe's work left out."
    )
    forward: tuple[float, ...] = Field((), description="Of it in training forwards; only a CPU waits for their end.")
    backward: tuple[float, ...] = Field((), description="Of it in backward().")
    update: tuple[float, ...] = Field((), description="Of it in the optimizers' steps.")
    batches: int | None = Field(None, description="Batches of one pass over the loader, if it has a length.")
    epochs: int | None = Field(None, description="Passes that the source plans, where a range() around the loop tells.")
    location: Location | None = None


class FedFromMemory(Part):
    """The loop with recorded batches in place of its loader: how long its steps take when nothing has to be loaded."""

    observed: float = Field(description="Median seconds of an observed step.")
    seconds: tuple[float, ...] = Field(description="Of each replayed step but the first.")


class RetainedGraphs(Part):
    """Autograd graphs of earlier steps that are still there."""

    alive: tuple[int, ...] = Field(
        description="After each step: steps at least two before it, of whose graph the last node still lives."
    )
    nodes: int = Field(0, description="Nodes of the graph of one loss.")
    memory: tuple[int, ...] = Field((), description="Bytes after each step: allocated on the device, else resident.")
    device: str = "cpu"
    holder: str = Field("", description="The variable that holds them, where it was found.")
    holder_kind: Literal["", "tensor", "collection"] = ""
    location: Location | None = Field(None, description="A line that adds to it.")
    backward_location: Location | None = None
