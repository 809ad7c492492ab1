"""One collector for each part of the evidence that observation gathers."""

from __future__ import annotations

from auditor.probe.collect import Collector
from auditor.probe.parts.activations import ActivationsCollector
from auditor.probe.parts.gradients import GradientsCollector
from auditor.probe.parts.initial_loss import InitialLossCollector
from auditor.probe.parts.inputs import InputsCollector
from auditor.probe.parts.labels import LabelsCollector
from auditor.probe.parts.loss_inputs import LossInputsCollector
from auditor.probe.parts.nonfinite import NonfiniteCollector
from auditor.probe.parts.program import ProgramCollector
from auditor.probe.parts.resets import GradientResetsCollector
from auditor.probe.parts.symmetry import SymmetryCollector
from auditor.probe.parts.trajectory import TrajectoryCollector
from auditor.probe.parts.updates import UpdatesCollector

# Order matters where one reads another: gradients are measured before the trajectory sums them up.
COLLECTORS: tuple[type[Collector], ...] = (
    GradientsCollector,
    TrajectoryCollector,
    ProgramCollector,
    UpdatesCollector,
    SymmetryCollector,
    InitialLossCollector,
    InputsCollector,
    LabelsCollector,
    ActivationsCollector,
    LossInputsCollector,
    GradientResetsCollector,
    NonfiniteCollector,
)
