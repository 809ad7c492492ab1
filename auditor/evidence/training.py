"""Values per step of the observed, untouched loop: losses, gradients, updates, activations."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part


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
    replaced_after: int | None = Field(
        None, description="Steps until other optimizers took the place of those of the first step: the next fold."
    )


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
    constant: bool = Field(False, description="Each unit was active for all samples or for none: their input is one.")


class Activations(Part):
    steps: tuple[int, ...]
    layers: tuple[UnitActivity, ...]


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
    target_nonfinite: bool = Field(False, description="The target of a loss call of that step held NaN or infinity.")
    parameter_nonfinite: bool = Field(False, description="A weight was already non-finite before the step.")
    scaler_skipped: int = Field(0, description="Steps that a GradScaler skipped because of infinities: no failure.")
    traced: bool = Field(False, description="The step was replayed with checks on every operation.")
    losses_before: tuple[float, ...] = Field((), description="The last losses before it.")
    spoilt: tuple[str, ...] = Field((), description="Norm layers whose running statistics became NaN or infinite.")
