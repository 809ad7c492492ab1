"""What one probe saw: a frozen, versioned model made of optional parts.

A part that was not gathered is None, and `Evidence.absent` says why. Parts hold plain numbers and text, never
tensors, so evidence is saved as JSON and judged again later without running anything.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part
from auditor.evidence.data import Channel, Inputs, Labels
from auditor.evidence.experiments import LowerRate, Overfit, OverfitArm, PairedReplay, RateSweep, StandardizedInputs
from auditor.evidence.initialization import InitialLoss, LayerSymmetry, Symmetry
from auditor.evidence.leakage import Leakage, Overlap, SamplePair, Split
from auditor.evidence.loss import LossInput, LossInputs
from auditor.evidence.program import (
    Clipping,
    Layer,
    Loader,
    LossFunction,
    Model,
    ModeSwitch,
    Optimizer,
    Program,
    Scheduler,
)
from auditor.evidence.run import Crash, Phase, Run, Status
from auditor.evidence.training import (
    Activations,
    GradientReset,
    GradientResets,
    Gradients,
    LayerGradients,
    LayerUpdates,
    LossSeries,
    Nonfinite,
    Trajectory,
    UnitActivity,
    Updates,
)

__all__ = [
    "SCHEMA_VERSION",
    "Absence",
    "Activations",
    "Channel",
    "Clipping",
    "Crash",
    "Evidence",
    "Frozen",
    "GradientReset",
    "GradientResets",
    "Gradients",
    "InitialLoss",
    "Inputs",
    "Labels",
    "Layer",
    "LayerGradients",
    "LayerSymmetry",
    "LayerUpdates",
    "Leakage",
    "Loader",
    "Location",
    "LossFunction",
    "LossInput",
    "LossInputs",
    "LossSeries",
    "LowerRate",
    "ModeSwitch",
    "Model",
    "Nonfinite",
    "Optimizer",
    "Overfit",
    "OverfitArm",
    "Overlap",
    "PairedReplay",
    "Part",
    "Phase",
    "Program",
    "RateSweep",
    "Run",
    "SamplePair",
    "Scheduler",
    "Split",
    "StandardizedInputs",
    "Status",
    "Symmetry",
    "Trajectory",
    "UnitActivity",
    "Updates",
    "part_types",
]

SCHEMA_VERSION = "1.0"


class Absence(Frozen):
    """Why a part is missing: it makes no sense for this program, or it could not be gathered."""

    outcome: Literal["not-applicable", "inconclusive"]
    reason: str


class Evidence(Frozen):
    """Everything that one probe gathered."""

    schema_version: str = SCHEMA_VERSION
    run: Run
    program: Program | None = None
    trajectory: Trajectory | None = None
    gradients: Gradients | None = None
    updates: Updates | None = None
    symmetry: Symmetry | None = None
    initial_loss: InitialLoss | None = None
    inputs: Inputs | None = None
    labels: Labels | None = None
    activations: Activations | None = None
    loss_inputs: LossInputs | None = None
    gradient_resets: GradientResets | None = None
    nonfinite: Nonfinite | None = None
    leakage: Leakage | None = None
    overfit: Overfit | None = None
    rate_sweep: RateSweep | None = None
    lower_rate: LowerRate | None = None
    standardized_inputs: StandardizedInputs | None = None
    absent: dict[str, Absence] = Field(default_factory=dict)


def part_types() -> dict[str, type[Part]]:
    """Field name -> part class, for every part of the evidence."""
    found: dict[str, type[Part]] = {}
    for name, field in Evidence.model_fields.items():
        options = getattr(field.annotation, "__args__", (field.annotation,))
        for option in options:
            if isinstance(option, type) and issubclass(option, Part):
                found[name] = option
    return found
