"""What the loss functions receive."""

from __future__ import annotations

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part


class LossInput(Frozen):
    """What one cross-entropy call site received as its logits."""

    function: str
    location: Location | None = None
    calls: int
    rows: int
    classes: int
    row_sum_error: float = Field(description="Largest |sum(row) - 1|.")
    min_value: float
    max_value: float
    log_probabilities: bool = Field(False, description="Every row is already log-softmaxed: harmless.")
    producer: str = Field("", description="Name of the operation that made the input, e.g. 'SoftmaxBackward0'.")
    producer_layer: str = ""
    producer_location: Location | None = None


class LossInputs(Part):
    calls: tuple[LossInput, ...]
