"""The evidence as a whole, and its version."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from auditor.evidence.augmentation import Augmentation
from auditor.evidence.base import Frozen, Part
from auditor.evidence.data import Batches, Inputs, Labels, Tags, Targets
from auditor.evidence.distributed import Ranks
from auditor.evidence.efficiency import DataWait, FedFromMemory, RetainedGraphs
from auditor.evidence.evaluation import Comparisons, EvaluationNoise, HeldOutPasses, ModeEffect, Modes, Selection
from auditor.evidence.experiments import (
    ClassWeighted,
    LabelControl,
    LowerRate,
    Overfit,
    PenaltyOff,
    RateSweep,
    StandardizedInputs,
    StandardizedTargets,
    StepRepeats,
)
from auditor.evidence.initialization import InitialLoss, Symmetry, ZeroStarts
from auditor.evidence.leakage import CopiedTargets, Groups, Leakage, NearDuplicates
from auditor.evidence.learning import HeldWeights, HigherRate, RateAhead
from auditor.evidence.loss import LossInputs, LossSites
from auditor.evidence.model import (
    CrossSample,
    CustomFunctions,
    EmbeddingRows,
    GradientReach,
    GraphCuts,
    HiddenModules,
    InputUse,
    LayerChains,
)
from auditor.evidence.norms import BatchNorms, DropoutShifts
from auditor.evidence.optimization import (
    Accumulation,
    DividedAccumulation,
    EventTrace,
    FrozenEarly,
    Motion,
    Ownership,
    Schedules,
    ValueClipping,
)
from auditor.evidence.order import OrderControl, PairedLoaders, SampleOrder, TargetBlock
from auditor.evidence.precision import FullPrecision, LowPrecision, ScaleChange, ScalerUse, Underflow
from auditor.evidence.program import Program
from auditor.evidence.run import Run, Seeding
from auditor.evidence.sequence import (
    IgnoredLabels,
    PaddedOutputs,
    PlacedTokens,
    TiedWeights,
    TokenInfluence,
    TokenLabels,
)
from auditor.evidence.signal import CalmedRecurrence, ForwardScale, Reinitialized, Saturation
from auditor.evidence.source import Source
from auditor.evidence.training import Activations, GradientResets, Gradients, Nonfinite, Trajectory, Updates
from auditor.evidence.trials import Trials

SCHEMA_VERSION = "1.0"


class Absence(Frozen):
    """Why a part is missing: it makes no sense for this program, or it could not be gathered."""

    outcome: Literal["not-applicable", "inconclusive"]
    reason: str = Field(min_length=1)


class Evidence(Frozen):
    """Everything that one probe gathered."""

    schema_version: str = SCHEMA_VERSION
    run: Run
    program: Program | None = None
    trajectory: Trajectory | None = None
    gradients: Gradients | None = None
    updates: Updates | None = None
    symmetry: Symmetry | None = None
    zero_starts: ZeroStarts | None = None
    initial_loss: InitialLoss | None = None
    inputs: Inputs | None = None
    labels: Labels | None = None
    tags: Tags | None = None
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
    rate_ahead: RateAhead | None = None
    held_weights: HeldWeights | None = None
    label_control: LabelControl | None = None
    class_weighted: ClassWeighted | None = None
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
    full_precision: FullPrecision | None = None
    calmed_recurrence: CalmedRecurrence | None = None
    saturation: Saturation | None = None
    modes: Modes | None = None
    mode_effect: ModeEffect | None = None
    evaluation_noise: EvaluationNoise | None = None
    comparisons: Comparisons | None = None
    held_out_passes: HeldOutPasses | None = None
    selection: Selection | None = None
    groups: Groups | None = None
    near_duplicates: NearDuplicates | None = None
    copied_targets: CopiedTargets | None = None
    step_repeats: StepRepeats | None = None
    scaler_use: ScalerUse | None = None
    scale_change: ScaleChange | None = None
    underflow: Underflow | None = None
    low_precision: LowPrecision | None = None
    ranks: Ranks | None = None
    sample_order: SampleOrder | None = None
    order_control: OrderControl | None = None
    paired_loaders: PairedLoaders | None = None
    target_block: TargetBlock | None = None
    augmentation: Augmentation | None = None
    data_wait: DataWait | None = None
    fed_from_memory: FedFromMemory | None = None
    retained_graphs: RetainedGraphs | None = None
    hidden_modules: HiddenModules | None = None
    gradient_reach: GradientReach | None = None
    graph_cuts: GraphCuts | None = None
    cross_sample: CrossSample | None = None
    input_use: InputUse | None = None
    embedding_rows: EmbeddingRows | None = None
    layer_chains: LayerChains | None = None
    custom_functions: CustomFunctions | None = None
    batch_norms: BatchNorms | None = None
    dropout_shifts: DropoutShifts | None = None
    ignored_labels: IgnoredLabels | None = None
    token_labels: TokenLabels | None = None
    token_influence: TokenInfluence | None = None
    placed_tokens: PlacedTokens | None = None
    padded_outputs: PaddedOutputs | None = None
    tied_weights: TiedWeights | None = None
    trials: Trials | None = None
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
