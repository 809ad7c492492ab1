"""Remedies - what could be changed in a training loop - and what came of those that were tried on it.

A rule's finding names the remedies that answer it, the best first. The probe tries them on the user's own loop
(`auditor.probe.trials`), and the source edits (`auditor.edits`) write the one that helped into the script.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part
from auditor.evidence.experiments import PairedReplay


class RemedyKind(StrEnum):
    RATE = "rate"  # the learning rate times `amount`
    WARM_UP = "warm-up"  # the rate rises linearly from almost nothing over `amount` steps
    CLIP = "clip"  # the gradients' global norm, to `amount`
    STANDARDIZE_INPUTS = "standardize-inputs"  # per channel or feature
    STANDARDIZE_TARGETS = "standardize-targets"
    REINITIALIZE = "reinitialize"  # weights drawn anew for the activation that follows: of `layers`, or of all
    LEAKY_UNITS = "leaky-units"  # ReLU with a slope of 0.01 for negative inputs
    CLASS_WEIGHTS = "class-weights"  # the loss of a sample weighs by the inverse frequency of its class
    BALANCED_BATCHES = "balanced-batches"  # every class is drawn as often as the others
    LEAVE_OUT = "leave-out"  # the call at `site` gives back what it is given
    DIVIDE_LOSS = "divide-loss"  # by `amount`
    ZERO_GRADIENTS = "zero-gradients"  # once an update, before the gradients of the next are gathered
    TRAINING_MODE = "training-mode"  # of the model, in every training step
    CAUSAL_MASK = "causal-mask"  # no position attends to later ones
    SHUFFLE = "shuffle"  # the samples of the recorded batches, in mixed batches
    NO_DROPOUT = "no-dropout"
    NO_PENALTY = "no-penalty"  # neither weight decay nor terms of the loss that depend on the weights alone
    FULL_PRECISION = "full-precision"  # weights and updates in float32


class Remedy(Frozen):
    """One change. `site` is the user's line that it concerns: of the optimizer, the loader, the call to leave out."""

    kind: RemedyKind
    amount: float | None = None
    layers: tuple[str, ...] = ()
    site: Location | None = None
    subject: str = Field("", description="The name at the site: of a variable, a keyword or a function.")
    mean: tuple[float, ...] = Field((), description="Per channel or feature, of what the model is given.")
    std: tuple[float, ...] = ()
    values: tuple[float, ...] = Field((), description="Weights of the classes.")

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for remedies that are one and the same trial."""
        place = (self.site.file, self.site.line) if self.site and self.kind is RemedyKind.LEAVE_OUT else None
        return self.kind, self.amount, self.layers, place


class TrialRun(Frozen):
    """Remedies tried together, against the replayed loop as it is: same weights, same batches, same random numbers."""

    remedies: tuple[Remedy, ...]
    metric: Literal["loss", "accuracy"] = Field("loss", description="Of the looks; accuracy where the loss changes.")
    looks: tuple[PairedReplay, ...] = Field((), description="The second one is on other batches.")
    refused: str = Field("", description="Why it could not be tried.")

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for one and the same trial."""
        return tuple(sorted((remedy.key for remedy in self.remedies), key=repr))


class Trials(Part):
    """What came of the remedies that were tried."""

    runs: tuple[TrialRun, ...]
    fidelity: float | None = None
