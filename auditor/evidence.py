"""What one probe saw: a frozen, versioned model made of optional parts.

A part that was not gathered is None, and `Evidence.absent` says why. Parts hold plain numbers and text, never
tensors, so evidence is saved as JSON and judged again later without running anything.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from auditor.untrusted import storable

SCHEMA_VERSION = "1.0"


class Frozen(BaseModel):
    """Immutable, strict about unknown keys; NaN and infinities survive JSON as strings."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings", defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _keep_text_storable(cls, data: Any) -> Any:
        """Whatever a script calls its things, its evidence can be written as UTF-8 and stays of bounded size."""
        return {key: _storable(value) for key, value in data.items()} if isinstance(data, dict) else data


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, tuple | list) and value and isinstance(value[0], str):
        return tuple(_storable(item) for item in value)
    if isinstance(value, dict):  # also the data of a nested model, whose own turn comes later
        return {_storable(key): item for key, item in value.items()}
    return value


class Location(Frozen):
    """A place in the user's source."""

    file: str
    line: int = Field(ge=1)
    function: str = ""


class Part(Frozen):
    """One piece of evidence; a rule asks for it by naming the class in its signature."""


# --------------------------------------------------------------------------------------------------------------- run


class Status(StrEnum):
    COMPLETED = "completed"
    SCRIPT_FAILED = "script-failed"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    NOTHING_TO_AUDIT = "nothing-to-audit"


class Crash(Frozen):
    """How the script ended when it did not end well. `traceback` holds the user's frames only."""

    kind: str = Field(description="Exception class, 'SystemExit', or 'signal'.")
    message: str = ""
    traceback: str = ""
    location: Location | None = None
    step: int = Field(0, description="Optimizer steps taken before the crash.")

    @property
    def name(self) -> str:
        """What to call it: the exception, or the signal, as in 'SIGSEGV: segmentation fault in native code'."""
        return self.message.partition(":")[0] if self.kind == "signal" else self.kind


class Phase(Frozen):
    """One phase of the probe: start-up, observation, an experiment, a data scan."""

    name: str
    status: Literal["completed", "cut-short", "skipped", "failed"]
    seconds: float = 0.0
    steps: int = 0
    reason: str = ""


class Run(Part):
    target: str
    args: tuple[str, ...] = ()
    module: bool = Field(False, description="True for `-m package.module`.")
    status: Status = Status.COMPLETED
    exit_code: int | None = None
    crash: Crash | None = None
    steps: int = Field(0, description="Optimizer steps observed before the experiments began.")
    seconds: float = 0.0
    step_seconds: float | None = Field(None, description="Median seconds of an observed step without its sampling.")
    overhead: float | None = Field(None, description="Observed step time over the same time less our own work.")
    device: str = "cpu"
    torch: str = ""
    python: str = ""
    seed: int | None = None
    phases: tuple[Phase, ...] = ()
    diverted: tuple[str, ...] = Field((), description="Files the script wrote that were diverted to scratch.")
    elsewhere: str = Field("", description="file:line of training in a process that the script started, or its name.")
    notes: tuple[str, ...] = Field((), description="Sentences about choices the probe made.")


# ----------------------------------------------------------------------------------------------------------- program


class Layer(Frozen):
    """A module that directly owns parameters or buffers, or an activation."""

    name: str = Field(description="Qualified name in its model, e.g. 'features.0'.")
    kind: str
    parameters: int = 0
    trainable: int = 0
    shape: tuple[int, ...] = Field((), description="Shape of the weight, if there is one.")
    location: Location | None = None


class Model(Frozen):
    name: str = Field(description="The class name, numbered when several models share it.")
    kind: str
    parameters: int
    trainable: int
    location: Location | None = None
    layers: tuple[Layer, ...] = ()


class Optimizer(Frozen):
    kind: str
    learning_rates: tuple[float, ...] = Field(description="Per parameter group, as constructed.")
    momentum: float | None = None
    weight_decay: float | None = None
    parameters: int = 0
    steps: int = 0
    location: Location | None = None
    step_location: Location | None = None


class Scheduler(Frozen):
    kind: str
    steps: int = 0
    location: Location | None = None


class LossFunction(Frozen):
    """A loss function seen on the way to backward()."""

    name: str = Field(description="Functional name, e.g. 'cross_entropy'.")
    reduction: str = "mean"
    weighted: bool = False
    label_smoothing: float = 0.0
    ignore_index: int | None = None
    calls: int = 0
    location: Location | None = None


class Loader(Frozen):
    name: str = Field(description="The user's variable where the source tells it, else 'loader 1'.")
    role: Literal["training", "held-out", "unused"]
    dataset: str = Field("", description="Class name of the dataset.")
    samples: int | None = None
    batch_size: int | None = None
    sampler: str = ""
    shuffled: bool | None = None
    workers: int = 0
    drop_last: bool = False
    location: Location | None = None


class Clipping(Frozen):
    kind: Literal["norm", "value"]
    limit: float
    calls: int = 0
    location: Location | None = None


class ModeSwitch(Frozen):
    training: bool
    model: str
    step: int
    location: Location | None = None


class Program(Part):
    """The pieces of the user's program, each with its place in the source."""

    loop: Literal["loader", "tensors", "target"] = Field(
        description="'loader': fed by a DataLoader; 'tensors': get_batch, slices or full batch; 'target': our loop."
    )
    models: tuple[Model, ...] = ()
    optimizers: tuple[Optimizer, ...] = ()
    schedulers: tuple[Scheduler, ...] = ()
    losses: tuple[LossFunction, ...] = ()
    loaders: tuple[Loader, ...] = ()
    clippings: tuple[Clipping, ...] = ()
    mode_switches: tuple[ModeSwitch, ...] = ()
    manual_updates: bool = Field(False, description="Weights are updated without torch.optim.")
    backwards_per_step: float = 1.0
    closure: bool = Field(False, description="The optimizer's step is given a closure.")
    scaler: bool = Field(False, description="A GradScaler is in use.")
    autocast: str = Field("", description="dtype of autocast, '' when off.")
    loss_location: Location | None = Field(None, description="Where backward() is called.")


# -------------------------------------------------------------------------------------------------------- trajectory


class LossSeries(Frozen):
    """Values that one backward() call site saw, one per optimizer step that it contributed to."""

    label: str
    location: Location | None = None
    steps: tuple[int, ...] = ()
    values: tuple[float, ...] = ()


class Trajectory(Part):
    """Per-step values of the observed, untouched loop. All tuples run over the observed steps 0..n-1."""

    losses: tuple[float, ...] = Field(
        description="Sum of what backward() was called on in the step, loss scale removed."
    )
    learning_rates: tuple[float, ...] = Field(description="Of the first parameter group, in force at the step.")
    grad_norms: tuple[float, ...] = Field(description="Global L2 norm, loss scale removed, before clipping.")
    clipped_norms: tuple[float, ...] = Field(
        (), description="Global L2 norm as the optimizer used it; empty: no clipping."
    )
    epoch_starts: tuple[int, ...] = Field((), description="Steps at which the training loader was started anew.")
    series: tuple[LossSeries, ...] = Field((), description="By call site, when there are several.")
    held_out: tuple[tuple[int, float], ...] = Field((), description="(step, mean loss) of each evaluation seen.")
    skipped_steps: tuple[int, ...] = Field((), description="Steps that a GradScaler skipped.")


class LayerGradients(Frozen):
    """Gradient L2 norm of one layer at each step of `Gradients.steps`."""

    name: str
    kind: str = ""
    location: Location | None = None
    norms: tuple[float, ...] = ()


class Gradients(Part):
    """Gradient norms per layer over steps, in the order of the first forward, as the optimizer used them."""

    steps: tuple[int, ...]
    layers: tuple[LayerGradients, ...]


class LayerUpdates(Frozen):
    """RMS(update) / RMS(weight) of one weight at each step of `Updates.steps`."""

    name: str
    location: Location | None = None
    ratios: tuple[float, ...] = ()


class Updates(Part):
    """Update-to-weight ratios at sampled steps, tensors with at least two dimensions only."""

    steps: tuple[int, ...]
    layers: tuple[LayerUpdates, ...]


# ---------------------------------------------------------------------------------------------------- initialisation


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


class Symmetry(Part):
    steps: int
    layers: tuple[LayerSymmetry, ...]


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


# -------------------------------------------------------------------------------------------------------------- data


class Channel(Frozen):
    mean: float
    std: float
    min: float
    max: float


class Inputs(Part):
    """Statistics of the floating-point input of the model over the first observed batches."""

    kind: Literal["image", "features", "sequence", "other"]
    shape: tuple[int, ...] = Field(description="Of one batch.")
    dtype: str = "float32"
    samples: int
    mean: float
    std: float
    min: float
    max: float
    channels: tuple[Channel, ...] = Field((), description="Per channel (image) or feature; the first 64.")
    worst_channel: int | None = Field(None, description="Index with the largest |mean|/std.")
    binary_share: float = Field(0.0, description="Share of values that are exactly 0 or 1.")
    zero_share: float = 0.0
    nonfinite: int = 0
    first_layer: str = Field("", description="Name of the first module with parameters to see the input.")
    first_layer_kind: str = ""
    normalized_first: bool = Field(False, description="The first such module is a normalization layer.")
    location: Location | None = Field(None, description="Where the data enter: the loader, else the model call.")
    model_location: Location | None = None


class Labels(Part):
    """Class labels as the loss function received them, and how well each class is predicted at the end."""

    classes: int
    counts: tuple[int, ...] = Field(description="Training labels per class; of the whole dataset when `complete`.")
    complete: bool = Field(False, description="Counted over the whole training set instead of the batches seen.")
    held_out_counts: tuple[int, ...] = ()
    seen: tuple[int, ...] = Field((), description="Per class, labels in the last third of the observed steps.")
    hits: tuple[int, ...] = Field((), description="Per class, how many of `seen` were predicted right.")
    predicted: tuple[int, ...] = Field((), description="Per class, how often it was predicted there.")
    weighted_loss: bool = False
    weighted_sampler: bool = False
    per_position: bool = Field(False, description="Dense labels (segmentation, tokens) rather than one per sample.")
    ignore_index: int | None = None
    location: Location | None = Field(None, description="The loss call that received them.")
    data_location: Location | None = Field(None, description="The training loader or dataset.")


# ------------------------------------------------------------------------------------------------------- activations


class UnitActivity(Frozen):
    """Output units of one rectifier over every sampled step."""

    name: str = Field(description="The layer that feeds the rectifier, else the rectifier.")
    rectifier: str = "relu"
    location: Location | None = None
    units: int
    dead: int = Field(description="Units whose output was 0 for every sample in every sampled step.")
    dead_start: int = Field(description="The same over the first sampled step alone.")
    dead_end: int = Field(description="The same over the last third of the sampled steps.")
    samples: int = Field(description="Samples (times positions, for maps) that each unit saw.")
    batches: int = 0
    active_share: float = Field(description="Share of all outputs that were above 0.")


class Activations(Part):
    steps: tuple[int, ...]
    layers: tuple[UnitActivity, ...]


# ------------------------------------------------------------------------------------------------------ loss, updates


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


class GradientReset(Frozen):
    """Whether one optimizer's gradients were cleared between its steps."""

    optimizer: str
    steps_checked: int
    stale_steps: int = Field(description="Steps whose gradient still contained the one already used.")
    stale_norms: tuple[float, ...] = Field((), description="Norm of what was left over, per checked step.")
    grad_norms: tuple[float, ...] = Field((), description="Norm of the gradient then used, per checked step.")
    zero_grad_calls: int = 0
    step_location: Location | None = None
    backward_location: Location | None = None


class GradientResets(Part):
    optimizers: tuple[GradientReset, ...]


class Nonfinite(Part):
    """Where NaN or infinity first appeared; `first_step` is None when every loss and gradient was finite."""

    steps_checked: int
    first_step: int | None = None
    what: Literal["", "loss", "gradient", "parameter"] = ""
    direction: Literal["", "forward", "backward"] = ""
    operation: str = Field("", description="The first operation with finite inputs and a non-finite result.")
    layer: str = ""
    location: Location | None = None
    loss_location: Location | None = None
    input_nonfinite: bool = Field(False, description="The batch itself already held NaN or infinity.")
    parameter_nonfinite: bool = Field(False, description="A weight was already non-finite before the step.")
    scaler_skipped: int = Field(0, description="Steps that a GradScaler skipped because of infinities: no failure.")
    traced: bool = Field(False, description="The step was replayed with checks on every operation.")
    losses_before: tuple[float, ...] = Field((), description="The last losses before it.")


# ----------------------------------------------------------------------------------------------------------- leakage


class Split(Frozen):
    name: str
    role: Literal["training", "held-out"]
    samples: int
    hashed: int
    method: str = Field(description="'indices', 'arrays', 'files', 'items' or 'batches': how samples were read.")
    location: Location | None = None
    complete: bool = True


class SamplePair(Frozen):
    training_index: int
    held_out_index: int
    training_label: str = ""
    held_out_label: str = ""
    thumbnail: str = Field("", description="PNG data URI of the training sample, images only.")
    held_out_thumbnail: str = ""


class Overlap(Frozen):
    training: str
    held_out: str
    shared: int = Field(description="Held-out samples that also are training samples, bit for bit.")
    held_out_samples: int
    identity: bool = Field(False, description="Proved by indices into one dataset, not by content.")
    labels_agree: float | None = Field(None, description="Share of the pairs with equal labels, if labels are known.")
    pairs: tuple[SamplePair, ...] = ()
    location: Location | None = Field(None, description="Where the held-out loader or dataset is made.")


class Leakage(Part):
    splits: tuple[Split, ...]
    overlaps: tuple[Overlap, ...] = ()
    duplicates_in_training: int = Field(0, description="Training samples equal to an earlier training sample.")
    trivial_samples: int = Field(0, description="Near-constant samples left out.")
    sample_values: int = Field(0, description="Numbers in one sample: few values make chance repeats likely.")


# ------------------------------------------------------------------------------------------------------- experiments


class OverfitArm(Frozen):
    rate_factor: float = Field(description="1 is the user's own learning rate.")
    learning_rate: float
    losses: tuple[float, ...]
    accuracy: float | None = Field(None, description="On the pinned samples over the last steps, class labels only.")
    reached: bool
    frozen_noise: bool = Field(
        False, description="Every step drew the same random numbers; else fresh ones, as the loop does."
    )


class Overfit(Part):
    """The user's own loop on a tiny pinned subset, dropout and weight decay off."""

    samples: int = Field(description="Distinct samples in the pinned batch.")
    batch_size: int
    tiled: bool
    floor: float | None = Field(description="Lowest reachable loss, where it is known.")
    floor_reason: str = ""
    target: float = Field(description="Success: the loss at or below this.")
    initial: float
    arms: tuple[OverfitArm, ...]
    fidelity: float | None = Field(None, description="|replayed - observed first loss| / |observed|, rewind check.")
    constant_output: bool | None = Field(None, description="All samples got the same output at the end.")
    loss_function: str = ""
    location: Location | None = None


class RateSweep(Part):
    """Exponential learning-rate sweep from the initial weights on recorded batches."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    user_rate: float
    suggested: float | None = Field(
        None, description="Rate of the steepest fall of the smoothed loss, divergence kept away."
    )
    diverged_at: float | None = Field(None, description="First rate at which the smoothed loss left its range.")
    optimizer: str = ""
    location: Location | None = None


class PairedReplay(Frozen):
    """The same batches from the same weights with the same random numbers, twice: as is, and with one change."""

    start: Literal["initial", "later"]
    control: tuple[float, ...]
    treated: tuple[float, ...]
    seed_offset: int = 0


class LowerRate(Part):
    """Replay at a quarter of the learning rate."""

    factor: float
    learning_rate: float = Field(description="The user's own, the highest of the observed steps.")
    optimizer: str = ""
    looks: tuple[PairedReplay, ...]
    fidelity: float | None = None
    location: Location | None = None


class StandardizedInputs(Part):
    """Replay with inputs standardized per channel or feature, by the statistics of `Inputs`."""

    looks: tuple[PairedReplay, ...]
    fidelity: float | None = None
    location: Location | None = None


# ---------------------------------------------------------------------------------------------------------- evidence


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
