"""What one probe saw: a frozen, versioned model made of optional parts.

A part that was not gathered is None, and `Evidence.absent` says why. Parts hold plain numbers and text, never
tensors, so evidence is saved as JSON and judged again later without running anything.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from auditor.evidence.augmentation import Augmentation
from auditor.evidence.base import Frozen, Location, Part
from auditor.evidence.data import Batches, Channel, Inputs, Labels, NonfiniteBatch, Targets
from auditor.evidence.distributed import RankPrint, Ranks
from auditor.evidence.efficiency import DataWait, FedFromMemory, RetainedGraphs
from auditor.evidence.evaluation import (
    BroadcastComparison,
    Choice,
    Comparisons,
    DropoutCall,
    EvaluationNoise,
    HeldOutLoader,
    HeldOutPass,
    HeldOutPasses,
    ModeEffect,
    ModelModes,
    Modes,
    ModuleMode,
    RandomDraw,
    Selection,
    SingleArgmax,
)
from auditor.evidence.experiments import (
    LabelControl,
    LowerRate,
    Overfit,
    OverfitArm,
    PairedReplay,
    PenaltyOff,
    RateSweep,
    StandardizedInputs,
    StandardizedTargets,
    StepRepeats,
)
from auditor.evidence.initialization import InitialLoss, LayerSymmetry, Symmetry
from auditor.evidence.leakage import (
    FedRows,
    GroupOverlap,
    Groups,
    GroupSplit,
    Leakage,
    NearDuplicates,
    Overlap,
    SamplePair,
    Split,
    TwinPair,
)
from auditor.evidence.learning import HeldWeights, HigherRate, RateLook
from auditor.evidence.loss import (
    LoneSoftmax,
    LossInput,
    LossInputs,
    LossSite,
    LossSites,
    LossTerm,
    RawLoss,
    TwiceSquashed,
)
from auditor.evidence.model import (
    BiasedNorm,
    CrossSample,
    CustomFunction,
    CustomFunctions,
    GradientReach,
    GraphCut,
    GraphCuts,
    HiddenModule,
    HiddenModules,
    InputUse,
    LayerChains,
    LinearPair,
    Unreached,
)
from auditor.evidence.norms import BatchNorm, BatchNorms, DropoutShift, DropoutShifts
from auditor.evidence.optimization import (
    Accumulation,
    CallOrder,
    ClearedGradients,
    DividedAccumulation,
    EventTrace,
    FrozenEarly,
    LeftOut,
    Motion,
    Ownership,
    ParameterMotion,
    Schedule,
    Schedules,
    StaleGroup,
    ValueClipping,
)
from auditor.evidence.order import OrderControl, SampleOrder
from auditor.evidence.precision import (
    LostUpdates,
    LowPrecision,
    ScaleChange,
    ScaledClip,
    ScalerUse,
    Underflow,
    UnscaledShare,
)
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
from auditor.evidence.run import Crash, Phase, Run, Seeding, Status
from auditor.evidence.sequence import (
    IgnoredLabels,
    LabelSite,
    Offset,
    PaddedOutputs,
    PaddedSite,
    TiedPair,
    TiedWeights,
    TokenInfluence,
    TokenLabels,
    TokenSite,
)
from auditor.evidence.signal import ForwardScale, LayerScale, RecurrentScale, Reinitialized, SaturatedLayer, Saturation
from auditor.evidence.source import Accumulator, Mention, MisfitCall, OwnTrainMethod, Source, SourceFile, WholeFit
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
    "Accumulation",
    "Accumulator",
    "Activations",
    "Augmentation",
    "BatchNorm",
    "BatchNorms",
    "Batches",
    "BiasedNorm",
    "BroadcastComparison",
    "CallOrder",
    "Channel",
    "Choice",
    "ClearedGradients",
    "Clipping",
    "Comparisons",
    "Crash",
    "CrossSample",
    "CustomFunction",
    "CustomFunctions",
    "DataWait",
    "DividedAccumulation",
    "DropoutCall",
    "DropoutShift",
    "DropoutShifts",
    "EvaluationNoise",
    "EventTrace",
    "Evidence",
    "FedFromMemory",
    "FedRows",
    "ForwardScale",
    "Frozen",
    "FrozenEarly",
    "GradientReach",
    "GradientReset",
    "GradientResets",
    "Gradients",
    "GraphCut",
    "GraphCuts",
    "GroupOverlap",
    "GroupSplit",
    "Groups",
    "HeldOutLoader",
    "HeldOutPass",
    "HeldOutPasses",
    "HeldWeights",
    "HiddenModule",
    "HiddenModules",
    "HigherRate",
    "IgnoredLabels",
    "InitialLoss",
    "InputUse",
    "Inputs",
    "LabelControl",
    "LabelSite",
    "Labels",
    "Layer",
    "LayerChains",
    "LayerGradients",
    "LayerScale",
    "LayerSymmetry",
    "LayerUpdates",
    "Leakage",
    "LeftOut",
    "LinearPair",
    "Loader",
    "Location",
    "LoneSoftmax",
    "LossFunction",
    "LossInput",
    "LossInputs",
    "LossSeries",
    "LossSite",
    "LossSites",
    "LossTerm",
    "LostUpdates",
    "LowPrecision",
    "LowerRate",
    "Mention",
    "MisfitCall",
    "ModeEffect",
    "ModeSwitch",
    "Model",
    "ModelModes",
    "Modes",
    "ModuleMode",
    "Motion",
    "NearDuplicates",
    "Nonfinite",
    "NonfiniteBatch",
    "Offset",
    "Optimizer",
    "OrderControl",
    "Overfit",
    "OverfitArm",
    "Overlap",
    "OwnTrainMethod",
    "Ownership",
    "PaddedOutputs",
    "PaddedSite",
    "PairedReplay",
    "ParameterMotion",
    "Part",
    "PenaltyOff",
    "Phase",
    "Program",
    "RandomDraw",
    "RankPrint",
    "Ranks",
    "RateLook",
    "RateSweep",
    "RawLoss",
    "RecurrentScale",
    "Reinitialized",
    "RetainedGraphs",
    "Run",
    "SampleOrder",
    "SamplePair",
    "SaturatedLayer",
    "Saturation",
    "ScaleChange",
    "ScaledClip",
    "ScalerUse",
    "Schedule",
    "Scheduler",
    "Schedules",
    "Seeding",
    "Selection",
    "SingleArgmax",
    "Source",
    "SourceFile",
    "Split",
    "StaleGroup",
    "StandardizedInputs",
    "StandardizedTargets",
    "Status",
    "StepRepeats",
    "Symmetry",
    "Targets",
    "TiedPair",
    "TiedWeights",
    "TokenInfluence",
    "TokenLabels",
    "TokenSite",
    "Trajectory",
    "TwiceSquashed",
    "TwinPair",
    "Underflow",
    "UnitActivity",
    "Unreached",
    "UnscaledShare",
    "Updates",
    "ValueClipping",
    "WholeFit",
    "__args__",
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
    loss_sites: LossSites | None = None
    gradient_resets: GradientResets | None = None
    nonfinite: Nonfinite | None = None
    leakage: Leakage | None = None
    overfit: Overfit | None = None
    rate_sweep: RateSweep | None = None
    penalty_off: PenaltyOff | None = None
    lower_rate: LowerRate | None = None
    standardized_inputs: StandardizedInputs | None = None
    higher_rate: HigherRate | None = None
    held_weights: HeldWeights | None = None
    label_control: LabelControl | None = None
    standardized_targets: StandardizedTargets | None = None
    batches: Batches | None = None
    targets: Targets | None = None
    source: Source | None = None
    seeding: Seeding | None = None
    event_trace: EventTrace | None = None
    ownership: Ownership | None = None
    motion: Motion | None = None
    accumulation: Accumulation | None = None
    divided_accumulation: DividedAccumulation | None = None
    schedules: Schedules | None = None
    frozen_early: FrozenEarly | None = None
    value_clipping: ValueClipping | None = None
    forward_scale: ForwardScale | None = None
    reinitialized: Reinitialized | None = None
    saturation: Saturation | None = None
    modes: Modes | None = None
    mode_effect: ModeEffect | None = None
    evaluation_noise: EvaluationNoise | None = None
    comparisons: Comparisons | None = None
    held_out_passes: HeldOutPasses | None = None
    selection: Selection | None = None
    groups: Groups | None = None
    near_duplicates: NearDuplicates | None = None
    step_repeats: StepRepeats | None = None
    scaler_use: ScalerUse | None = None
    scale_change: ScaleChange | None = None
    underflow: Underflow | None = None
    low_precision: LowPrecision | None = None
    ranks: Ranks | None = None
    sample_order: SampleOrder | None = None
    order_control: OrderControl | None = None
    augmentation: Augmentation | None = None
    data_wait: DataWait | None = None
    fed_from_memory: FedFromMemory | None = None
    retained_graphs: RetainedGraphs | None = None
    hidden_modules: HiddenModules | None = None
    gradient_reach: GradientReach | None = None
    graph_cuts: GraphCuts | None = None
    cross_sample: CrossSample | None = None
    input_use: InputUse | None = None
    layer_chains: LayerChains | None = None
    custom_functions: CustomFunctions | None = None
    batch_norms: BatchNorms | None = None
    dropout_shifts: DropoutShifts | None = None
    ignored_labels: IgnoredLabels | None = None
    token_labels: TokenLabels | None = None
    token_influence: TokenInfluence | None = None
    padded_outputs: PaddedOutputs | None = None
    tied_weights: TiedWeights | None = None
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
