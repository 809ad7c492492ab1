"""What the loss functions receive."""

from __future__ import annotations

from typing import Literal

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


class LossSite(Frozen):
    """One place where predictions meet targets: calls of one loss function, or a difference written by hand.

    Taken at the sampled steps. Values are those of the prediction ("input") as the loss received it.
    """

    function: str = Field(description="'mse_loss' and the like; '-' or '*' where it is written by hand.")
    location: Location | None = None
    calls: int
    reduction: str = "mean"
    log_target: bool = Field(False, description="kl_div was told that its targets are log-probabilities.")
    log_input: bool = Field(False, description="poisson_nll_loss takes its input for the logarithm of the rate.")
    input_shape: tuple[int, ...] = Field((), description="Of the first call, or of the first that broadcast.")
    target_shape: tuple[int, ...] = ()
    broadcasts: int = Field(
        0, description="Calls whose shapes differ by axes of size 1 only, and spread over each other to all pairs."
    )
    input_min: float = 0.0
    input_max: float = 0.0
    row_error: float | None = Field(
        None, description="Largest |log sum exp| over the classes: 0 for log-probabilities."
    )
    sum_error: float | None = Field(None, description="Largest |sum - 1| over the classes: 0 for probabilities.")
    target_min: float = 0.0
    target_max: float = 0.0
    target_mean: float = 0.0
    targets: int = Field(0, description="Target values seen; 0 where the targets are made by the model.")
    operation: str = Field("", description="Graph name of the operation that made the input, e.g. 'TanhBackward0'.")
    operation_layer: str = ""
    operation_location: Location | None = None
    recurrent: str = Field("", description="Kind of the recurrent layer whose hidden state is the input.")
    lower: float | None = Field(None, description="Values that this operation cannot go below.")
    upper: float | None = None
    outside: int = Field(0, description="Target values beyond these bounds.")
    unreachable: float = Field(
        0.0, description="Mean squared distance of the targets from the bounds, over their variance."
    )
    softmax_size: int | None = Field(
        None, description="Size of the axis of the softmax that alone determines the input; None without one."
    )
    softmax_axis: int | None = Field(None, description="That axis, where the softmax itself is the input.")
    normalizer: tuple[int, ...] = Field(
        (), description="nll_loss: shape that the (log-)softmax which made its input returned; () without one."
    )
    normalizer_axis: int | None = Field(None, description="The axis along which that one normalized.")
    own_index: bool = Field(False, description="The class labels are the positions in the batch: contrastive.")


class LossTerm(Frozen):
    """One summand of what backward() was called on."""

    kind: Literal["sum", "mean", "other"]
    factor: float = Field(1.0, description="Constant factors before it, multiplied.")
    rows: int = Field(0, description="First size of what is summed.")


class LoneSoftmax(Frozen):
    """One place with a softmax along an axis of one entry whose results, all ones, weigh the summands of a sum."""

    shape: tuple[int, ...]
    axis: int | None = None
    summands: int = Field(description="Entries along the axes that are summed.")
    calls: int = Field(1, description="At sampled steps.")
    layer: str = ""
    location: Location | None = None


class TwiceSquashed(Frozen):
    """Values between 0 and 1 that are squashed once more on their way into the loss."""

    inner: str = Field(description="'Sigmoid' or 'Softmax': what made the values.")
    outer: str = Field(description="What they went into: 'Sigmoid', 'LogSoftmax', 'Logsumexp' and the like.")
    shape: tuple[int, ...] = ()
    calls: int = Field(1, description="At sampled steps.")
    layer: str = ""
    location: Location | None = Field(None, description="Of the first of the two, where known.")
    loss_location: Location | None = None


class RawLoss(Frozen):
    """What backward() is called on is nothing but chosen outputs of a layer, times a constant."""

    calls: int = 1
    layer: str = ""
    location: Location | None = None


class PickedClass(Frozen):
    """A cross entropy by hand: one class a sample is picked from a table of log-probabilities."""

    shape: tuple[int, ...]
    normalised: int = Field(description="Axis along which the probabilities add up to 1.")
    classes: int = Field(description="Axis along which one entry a row is picked.")
    calls: int = Field(1, description="At sampled steps.")
    location: Location | None = Field(None, description="The backward call.")


class LossSites(Part):
    """What each loss received, and how the value that backward() was called on is put together."""

    sites: tuple[LossSite, ...] = ()
    terms: tuple[LossTerm, ...] = Field((), description="Of the last sampled step; the first 32.")
    summands: int = Field(0, description="How many terms there are.")
    forwards: int = Field(0, description="Calls of the model in that step, 0 where not known.")
    batch_size: int = Field(0, description="First size of the model's first tensor argument, 0 where not known.")
    batch_softmaxes: int = Field(0, description="Softmax calls seen inside models along the axis of the samples.")
    batch_softmax_location: Location | None = None
    lone_softmaxes: tuple[LoneSoftmax, ...] = ()
    crossed_softmaxes: tuple[LoneSoftmax, ...] = Field(
        (), description="Softmaxes over one axis of a square table whose entries are then summed along the other only."
    )
    twice: tuple[TwiceSquashed, ...] = ()
    raw: RawLoss | None = None
    picked: PickedClass | None = Field(None, description="Where that is all that the loss is.")
    covered: bool = Field(False, description="backward() gets a fixed multiple of what torch's loss functions return.")
    multiple: float = Field(
        1.0,
        description="The loss of a step over that of one call, where covered: 4 where the losses of four are added.",
    )
