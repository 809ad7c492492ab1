"""What the experiments on the program's own loop gave."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part


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


class Explained(Frozen):
    """Of what the targets differ in, the share that the loss function has been told (0: the best constant answer), in
    the median over the last third of the steps: with the terms beside it, and without."""

    steps: int
    kept: float
    without: float


class PenaltyOff(Part):
    """Replay without weight decay, and without the terms of the loss that depend on the weights alone; and one without
    the terms beside torch's loss functions.

    The losses compared are those of the data alone: of the loss functions.
    """

    terms: int = Field(description="Terms of the loss that depend on the weights alone.")
    weight_decay: float = Field(0.0, description="Largest of the optimizer's groups, added to the gradient (coupled).")
    ratio: float = Field(description="Norm of the penalty's gradient over that of the data, at the first step.")
    looks: tuple[PairedReplay, ...] = ()
    auxiliary: int = Field(0, description="Terms of the loss beside torch's loss functions, those of weights left out.")
    auxiliary_looks: tuple[PairedReplay, ...] = ()
    explained: tuple[Explained, ...] = Field((), description="Of the same looks, where the targets are of that kind.")
    explained_later: float | None = Field(None, description="The same with the terms, after `later_steps`.")
    later_steps: int = 0
    summed: float = Field(
        0.0, description="Weight of a value summed over the batch over that of one averaged beside it; 0: no such two."
    )
    adaptive: bool = Field(False, description="The optimizer divides by the size of the gradient, decay included.")
    fresh: float | None = Field(None, description="Share of the rows of the first look that had not come before in it.")
    fidelity: float | None = None
    optimizer: str = ""
    location: Location | None = Field(None, description="Where the optimizer is built.")
    loss_location: Location | None = None


class LowerRate(Part):
    """Replay at a quarter of the learning rate; where that is better, also for longer at a fraction of it."""

    factor: float
    learning_rate: float = Field(description="The user's own, the highest of the observed steps.")
    optimizer: str = ""
    looks: tuple[PairedReplay, ...]
    far_factor: float = Field(1.0, description="Factor on the rate in the longer looks.")
    far_looks: tuple[PairedReplay, ...] = Field((), description="Longer ones, where the others favour the lower rate.")
    comes_down: bool = Field(False, description="The script lowers its rate in the observed steps.")
    annealed: tuple[float, ...] = Field(
        (),
        description="Losses of the first longer look at a rate that comes down to zero, where the script's does.",
    )
    fidelity: float | None = None
    location: Location | None = None


class StandardizedInputs(Part):
    """Replay with inputs standardized per channel or feature, by the statistics of `Inputs`."""

    looks: tuple[PairedReplay, ...]
    rescaled: PairedReplay | None = Field(
        None, description="The same with one scale for all features, their offsets (in standard deviations) kept."
    )
    fidelity: float | None = None
    location: Location | None = None


class StandardizedTargets(Part):
    """Replay with standardized targets. Losses of both arms are in units of the targets' spread."""

    looks: tuple[PairedReplay, ...]
    mean: float
    std: float
    fidelity: float | None = None
    location: Location | None = None


class LabelControl(Part):
    """A few batches learned by heart with their own labels, and with labels that are shuffled within each batch."""

    real: tuple[float, ...]
    shuffled: tuple[tuple[float, ...], ...] = Field(description="One trajectory for each shuffle.")
    samples: int
    level: float = Field(description="Loss of a constant answer that knows the labels' shares.")
    observed: float = Field(description="Median of the last third of the observed losses.")
    fidelity: float | None = None
    location: Location | None = None


class ClassWeighted(Part):
    """Replays as the loop is, and with every class weighted by the inverse of its frequency."""

    control: tuple[float, ...] = Field(description="Balanced accuracy of each step: the mean of the classes' recalls.")
    weighted: tuple[float, ...]
    classes: int = Field(description="That occur in the training labels.")
    fidelity: float | None = None
    location: Location | None = None


class StepRepeats(Part):
    """The first steps, replayed twice from the same weights on the same batches with the same random numbers."""

    steps: int
    losses: tuple[tuple[float, ...], ...] = Field(description="Of each replay.")
    gradient_prints: tuple[str, ...] = Field((), description="Fingerprint of all gradients, of each replay.")
    device: str = ""
    deterministic: bool = Field(False, description="torch.use_deterministic_algorithms is on.")
    threads: int = 1
    location: Location | None = None
