"""The model before its first step."""

from __future__ import annotations

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part


class LayerSymmetry(Frozen):
    """Output units (rows) of one weight that equal an earlier row, bias included."""

    name: str
    location: Location | None = None
    units: int
    duplicates_start: int = Field(description="Units bit-equal to an earlier one before the first step.")
    duplicates_end: int = Field(description="Units equal to an earlier one to 1e-6 after the last observed step.")
    gradient_nonzero: bool = Field(description="Some gradient reached the weight during the observed steps.")
    moved: bool = Field(description="Some element of the weight changed during the observed steps.")
    zero_start: bool = Field(False, description="The weight was all zeros before the first step.")
    table: bool = Field(False, description="An embedding: its units are the columns, its rows are entries.")


class CopiedWeights(Frozen):
    """Weights of several layers that were bit-equal before the first step. Distances are root mean squares."""

    names: tuple[str, ...]
    shape: tuple[int, ...] = ()
    moved: float = Field(description="Distance of the first one from where it began, after the last observed step.")
    apart: float = Field(description="Largest distance of another one from the first, then.")
    gradient_nonzero: bool = Field(True, description="Some gradient reached each of them.")
    location: Location | None = None


class Symmetry(Part):
    steps: int
    layers: tuple[LayerSymmetry, ...]
    copies: tuple[CopiedWeights, ...] = ()


class ZeroStart(Frozen):
    """A weight that began at zero, and whose gradient was zero at every update."""

    name: str
    location: Location | None = None
    shape: tuple[int, ...] = ()
    woken: bool = Field(description="It has a gradient when all such weights start from random numbers instead.")


class ZeroStarts(Part):
    steps: int
    weights: tuple[ZeroStart, ...]
    fidelity: float | None = None


class InitialLoss(Part):
    """The loss of the untouched model at one recognised classification loss call."""

    function: str
    location: Location | None = None
    value: float = Field(description="Mean per-sample loss, unweighted, reduction undone, at step 0.")
    standard_error: float
    samples: int
    classes: int
    uniform: float = Field(description="ln C: the loss of an indifferent prediction.")
    marginal: float = Field(description="Entropy of the training labels seen: the best constant prediction.")
    pretrained: bool = Field(False, description="load_state_dict was called on the model before step 0.")
    weighted: bool = False
    label_smoothing: float = 0.0
    soft_targets: bool = False
    max_logit: float = Field(0.0, description="Largest absolute logit at step 0.")
    where: str = Field("", description="The layer that made the logits, if known.")
    layer_location: Location | None = None
