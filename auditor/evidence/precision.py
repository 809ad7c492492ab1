"""Half precision: the loss scale, gradients that underflow, updates that the weights cannot hold."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part
from auditor.evidence.experiments import PairedReplay


class ScaledClip(Frozen):
    """One call of a gradient clipping function in a step whose loss a GradScaler had scaled."""

    step: int
    kind: Literal["norm", "value"]
    limit: float
    seen: float = Field(description="What the clipping measured: the total norm, or the largest absolute value.")
    scale: float
    unscaled: bool = Field(description="unscale_() had been called for the optimizer of these gradients before.")


class ScalerUse(Part):
    """The order in which the loop calls its GradScaler."""

    steps: int
    scalers: int = Field(description="Distinct scalers that scaled a loss.")
    single_step_scalers: int = Field(0, description="Those of them that did so in one step only.")
    scaler_steps: int = Field(0, description="Calls of scaler.step().")
    updates: int = Field(0, description="Calls of scaler.update().")
    direct_steps: int = Field(
        0, description="optimizer.step() on gradients of a scaled loss: neither unscale_() nor scaler.step() before."
    )
    unscaled_losses: int = Field(
        0, description="scaler.step() for an optimizer since whose last step no backward had a scaled loss."
    )
    mixed_losses: int = Field(
        0,
        description="scaler.step() for an optimizer since whose last step not all backwards had a scaled loss.",
    )
    skipped: tuple[int, ...] = Field((), description="Steps that the scaler skipped, because of infinities.")
    finite_losses: bool = Field(True, description="The losses of all skipped steps were finite.")
    scales: tuple[float, ...] = Field((), description="The loss scale at the end of each step.")
    clips: tuple[ScaledClip, ...] = ()
    built_location: Location | None = None
    step_location: Location | None = Field(None, description="The first faulty or else the first step of an optimizer.")
    clip_location: Location | None = None
    backward_location: Location | None = None
    plain_location: Location | None = Field(None, description="The first backward on a loss that was not scaled.")


class UnscaledShare(Frozen):
    """How much of one optimizer's gradient shrinks with the loss scale, from one step at three scales.

    A loss that is not scaled, although the step divides by the scale S, contributes g / S: twice as much at S / 2 and
    four times as much at S / 4, so that the second change of the gradient is exactly twice the first.
    """

    share: float = Field(description="Its norm at a scale of 1, over that of the whole gradient.")
    error: float = Field(description="|second change - 2 * first change| / |second change|.")


class ScaleChange(Part):
    """One step from the same weights on the same batch at two loss scales: the gradient that the optimizer used must
    not depend on the scale."""

    scale: float
    factor: float = Field(description="The second scale over the first.")
    ratios: tuple[float, ...] = Field(description="Per optimizer: gradient norm at the second scale over the first.")
    differences: tuple[float, ...] = Field((), description="Per optimizer: |second - first| / |first|.")
    limit_ratio: float | None = Field(None, description="The limit of the first clipping, second over first scale.")
    unscaled: tuple[UnscaledShare, ...] = Field(
        (), description="Per optimizer, where the loop calls backward() on scaled and other losses before one step."
    )


class Underflow(Part):
    """Gradients of the same steps with and without a loss scale: elements that are zero only without it underflowed."""

    source: Literal["autocast", "weights"] = Field(description="Where the half precision comes from.")
    scale: float = Field(description="The largest power of two tried that left all gradients finite.")
    lost: tuple[float, ...] = Field(
        description="Per step: share of the elements that are not zero under the scale, but zero without it."
    )
    worst_layer: str = ""
    worst_lost: float = Field(0.0, description="The same share for the layer that lost most, in the first step.")
    elements: int = 0
    autocast_location: Location | None = None


class LostUpdates(Frozen):
    """What became of one step's update of the low-precision weights of one optimizer.

    `wanted`: elements that the optimizer moves when its own step is taken in float32 from the same state. `tested`:
    those that `repeats` such steps move by 1.5 representable distances or more. All shares are of these.
    """

    step: int
    learning_rate: float
    wanted: int
    unchanged: float = Field(description="Share of `wanted` that the real step left bit for bit as they were.")
    repeats: int = Field(description="Steps with one and the same gradient, taken on copies.")
    tested: int
    stuck: float = Field(description="Share of `tested` still unchanged after `repeats` steps in the stored precision.")
    agreement: float = Field(1.0, description="Share of elements in which the copy's first step equals the real step.")


class FullPrecision(Part):
    """Replay with the weights that are stored in half precision, and what the optimizer does to them, in float32."""

    looks: tuple[PairedReplay, ...]
    fidelity: float | None = None


class LowPrecision(Part):
    """Updates of weights that are stored in bfloat16 or float16."""

    optimizer: str
    dtype: str
    elements: int = Field(description="Low-precision elements of the optimizer.")
    share: float = Field(description="Of all elements of the optimizer.")
    looks: tuple[LostUpdates, ...]
    rising_rate: bool = Field(False, description="The learning rate was still rising at the last look.")
    location: Location | None = None
    dtype_location: Location | None = None
