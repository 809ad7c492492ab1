"""What the loop does around its optimizers: the order of its calls, what is in the groups, what moves, schedules."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part
from auditor.evidence.experiments import PairedReplay


class CallOrder(Frozen):
    """Steps whose calls came in the same order."""

    calls: str = Field(
        description="One letter a call, in order: n next batch, f forward, b backward, u unscale, c clip, z zero_grad, "
        "s optimizer step, l scheduler step. What follows the step belongs to the next one."
    )
    steps: int


class ClearedGradients(Frozen):
    """Calls of zero_grad() from one line that cleared gradients which no step had used."""

    location: Location | None = None
    before_update: int = Field(0, description="Calls between backward() and the step, which then had no gradient.")
    between_backwards: int = Field(0, description="Calls after a backward() on one batch and before that on the next.")
    between_losses: int = Field(0, description="Of these, calls between two losses of one and the same batch.")
    at_epoch_start: int = Field(0, description="Such calls after the training loader was started anew.")
    backwards: int = Field(0, description="Backward calls whose gradient was cleared here.")
    norms: tuple[float, ...] = Field((), description="Norm of what was cleared, at the first of these calls.")


class EventTrace(Part):
    """The order of the calls in each observed step, and gradients that were cleared before any step had used them."""

    orders: tuple[CallOrder, ...]
    steps: int
    backwards: int = Field(description="Backward calls whose gradient reached the optimizers.")
    used_backwards: int = Field(0, description="Of these, the ones whose gradient a step has used.")
    optimizers: int = Field(1, description="Optimizers that have stepped.")
    empty_updates: int = Field(0, description="Steps whose optimizer found no gradient at all, after a backward().")
    cleared: tuple[ClearedGradients, ...] = ()
    closure: bool = False
    input_gradients: bool = Field(False, description="The model is called with inputs that require a gradient.")
    step_location: Location | None = None


class LeftOut(Frozen):
    """Parameters of one module that receive gradients and belong to no optimizer."""

    name: str = Field(description="Qualified name of the module that owns them directly.")
    kind: str = ""
    parameters: int
    tensors: tuple[str, ...] = ()
    moved: bool = Field(False, description="Something else changes them: an update by hand, a moving average.")
    loaded: bool = Field(False, description="The module was given weights from outside, or was not built here.")
    location: Location | None = None


class StaleGroup(Frozen):
    """Parameters in one optimizer that belong to no module the training uses."""

    optimizer: str
    tensors: int
    parameters: int
    shapes: tuple[tuple[int, ...], ...] = ()
    all_of_it: bool = Field(False, description="The optimizer holds nothing else.")
    location: Location | None = Field(None, description="Where the optimizer is built.")


class FrozenStart(Frozen):
    """A layer that was built into a trained network, at random, and is frozen."""

    name: str
    kind: str = ""
    parameters: int
    location: Location | None = None


class Unreleased(Frozen):
    """A module on which `requires_grad = True` was set, as if it were a tensor: its parameters do not hear of it."""

    name: str
    kind: str = ""
    parameters: int = Field(description="Numbers in it, all of them frozen.")
    location: Location | None = None


class Ownership(Part):
    """Which parameters the executed graph reaches, and which ones the optimizers hold. Of a script that trains in
    stages, in the stage that misses most."""

    steps: int = Field(description="Of the stage.")
    since: int = Field(0, description="Step at which the stage began.")
    trained: int = Field(description="Numbers in the optimizers' parameters that receive gradients.")
    left_out: tuple[LeftOut, ...] = ()
    stale: tuple[StaleGroup, ...] = ()
    frozen_starts: tuple[FrozenStart, ...] = Field((), description="Gradients pass through them to trained layers.")
    unreleased: tuple[Unreleased, ...] = ()
    optimizers: tuple[str, ...] = ()
    optimizer_location: Location | None = None
    own_tensors: bool = Field(False, description="The optimizers hold tensors that are no parameters: an input image.")


class ParameterMotion(Frozen):
    """One parameter in an optimizer over the observed steps."""

    name: str
    kind: str = Field("", description="Class of the module that owns it.")
    location: Location | None = None
    shape: tuple[int, ...] = ()
    dtype: str = ""
    optimizer: str = ""
    graded_updates: int = Field(description="Updates at which its gradient was not zero and its rate above zero.")
    moved: bool = Field(description="Some element differs between the start and the end of the observation.")
    moved_within: bool = Field(True, description="Some watched element changed in one of the sampled updates.")
    rate: float = 0.0
    norms: tuple[float, ...] = Field((), description="L2 norm at each step of `Motion.norm_steps`.")
    scale_invariant: bool = Field(False, description="Its gradient is orthogonal to it: a norm layer follows.")
    outward: float = Field(0.0, description="Cosine of the descent direction and the weight, median of the steps.")
    masked: int = Field(0, description="Elements whose gradient was set to zero by hand before each sampled update.")
    masked_moved: int = Field(0, description="Of these, the ones that differ from their start at the end.")
    masked_rows: int = Field(0, description="Rows that consist of masked elements only.")
    drift: float = Field(0.0, description="Norm of the change of the masked elements over their norm.")
    since: int = Field(0, description="Step before which its optimizer was built, of one that came in later.")
    idle_updates: int = Field(0, description="Updates at which its gradient was not zero and its rate was zero.")
    returns: bool = Field(False, description="Moves in an update, and has its first value again before the next.")
    loaded: bool = Field(False, description="Its module was given weights from outside.")
    weight_decay: float = 0.0
    optimizer_location: Location | None = None


class Motion(Part):
    """What the updates did to each parameter in an optimizer."""

    steps: int
    total: int = Field(0, description="Parameters in the optimizers; `parameters` may hold the noteworthy ones only.")
    graded: int = Field(0, description="Of these, with a gradient other than zero at five updates or more.")
    norm_steps: tuple[int, ...] = ()
    parameters: tuple[ParameterMotion, ...]


class Accumulation(Part):
    """Several backward calls per step, each on a batch of its own."""

    per_step: int = Field(description="Backward calls per step, the most frequent number.")
    steps: int = Field(description="Steps looked at.")
    batches: int = Field(description="Different batches among the backward calls of a step, the least over the steps.")
    sites: int = Field(1, description="Lines that call backward().")
    ratios: tuple[float, ...] = Field((), description="Value of backward()'s root over what the loss functions gave.")
    reductions: tuple[str, ...] = Field((), description="Of the loss functions called, each once.")
    own_means: bool = Field(
        False, description="No loss function of torch is called: backward() gets a multiple of a mean, the ratio is it."
    )
    losses: int = Field(0, description="Calls of loss functions per backward.")
    rescaled: tuple[float, ...] = Field((), description="Gradient norm at the step over that after the last backward.")
    counted: tuple[tuple[int, ...], ...] = Field((), description="Per step, labels counted in each micro-batch.")
    values: tuple[tuple[int, ...], ...] = Field(
        (),
        description="Per step, of how many values each micro-batch's loss is the mean or sum; where the graph tells.",
    )
    weights: tuple[tuple[float, ...], ...] = Field((), description="Beside them, what one of these values counts.")
    same_last: bool = Field(False, description="The last micro-batch of these steps is always the same one.")
    clipping: bool = False
    optimizer: str = ""
    scale_free: bool = Field(False, description="The optimizer divides by the size of its gradients, as Adam does.")
    backward_location: Location | None = None
    step_location: Location | None = None
    rate: float = 0.0


class DividedAccumulation(Part):
    """Replay with the step that the mean over the micro-batches would take: the rate divided by their number."""

    per_step: int
    looks: tuple[PairedReplay, ...]
    fidelity: float | None = None


class Schedule(Frozen):
    """One learning-rate scheduler and when it is stepped."""

    kind: str
    location: Location | None = None
    step_location: Location | None = None
    calls: int = Field(0, description="Calls of its step() in the observed loop.")
    per_step: float | None = Field(None, description="Calls per optimizer step, away from the ends of epochs.")
    per_epoch: float | None = Field(None, description="Calls per completed epoch.")
    before_update: int = Field(0, description="Calls before the first step of the optimizer.")
    per_period: int | None = Field(None, description="Declared length: T_max, total_steps, step_size, total_iters.")
    period_name: str = Field("", description="What the scheduler calls that length.")
    gamma: float | None = Field(None, description="Factor of a StepLR, MultiStepLR or ExponentialLR.")
    milestones: tuple[int, ...] = ()
    rates: tuple[float, ...] = Field((), description="Rate of the first group after each call; the first 200.")
    calls_ahead: int = Field(0, description="Calls that the plan of the loop has left, 0 where no plan was found.")
    last_call: int | None = Field(None, description="Calls that the scheduler had counted when it was asked for them.")
    ahead: tuple[float, ...] = Field(
        (), description="Rates after those calls, by a copy of the scheduler: at most 200, evenly apart to the last."
    )
    batches_ahead: int = Field(0, description="Batches that the plan has left, for one that is stepped once per epoch.")
    at_every_batch: tuple[float, ...] = Field(
        (), description="Its rates if it were stepped after each of those batches, by a copy: at most 200, to the last."
    )
    left_at: float | None = Field(
        None, description="Last rate of a scheduler that the same line built before, for weights that went on."
    )
    left_before: float | None = Field(None, description="Highest rate that that one would still have come to.")
    mentioned: bool = Field(True, description="The source that builds it may step it: a call of its step() is there.")


class Schedules(Part):
    """The schedulers, and how long the loop says that it will run."""

    steps: int
    schedules: tuple[Schedule, ...]
    epochs_seen: int = Field(0, description="Passes over the training loader that ended in the observation.")
    batches_per_epoch: int | None = None
    backwards_per_step: int = 1
    planned_epochs: int | None = Field(None, description="Length of the range() that the loop over epochs runs over.")
    planned_steps: int | None = Field(None, description="Optimizer steps of a loop over steps, without epochs.")
    cut_short: bool = Field(False, description="The first epoch was ended early by the probe.")
    skipped_steps: bool = Field(False, description="A GradScaler skipped steps.")
    loop: Literal["loader", "other"] = "other"


class FrozenEarly(Part):
    """Replay with the early layers' gradients taken away: if they learn, that changes the losses."""

    layers: tuple[str, ...]
    control: tuple[float, ...]
    frozen: tuple[float, ...]
    fidelity: float | None = None


class ValueClipping(Part):
    """What clip_grad_value_ did to the gradient at the sampled steps."""

    limit: float
    steps: tuple[int, ...]
    cosines: tuple[float, ...] = Field(description="Between the gradient before and after.")
    shares: tuple[float, ...] = Field(description="Share of the elements that were cut.")
    location: Location | None = None
