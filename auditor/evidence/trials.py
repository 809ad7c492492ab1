"""Remedies - what could be changed in a training loop - and what came of those that were tried on it.

A rule's finding names the remedies that answer it, the best first. The probe tries them on the user's own loop
(`auditor.probe.trials`), and the source edits (`auditor.edits`) write the one that helped into the script.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    CLEAN_INPUTS = "clean-inputs"  # what is not finite becomes the mean of its feature in the batch
    STANDARDIZE_TARGETS = "standardize-targets"
    REINITIALIZE = "reinitialize"  # weights drawn anew for the activation that follows: of `layers`, or of all
    LEAKY_UNITS = "leaky-units"  # ReLU with a slope of 0.01 for negative inputs
    CLASS_WEIGHTS = "class-weights"  # the loss of a sample weighs by the inverse frequency of its class
    LEAVE_OUT = "leave-out"  # the call of `subject` at `site` gives back what it is given
    SIGMOID = "sigmoid"  # instead of the softmax at `site`
    SOFTMAX_AXIS = "softmax-axis"  # the softmax at `site` runs along axis `amount`
    LOG_PROBABILITIES = "log-probabilities"  # the loss gets its input in the form that it needs; of the `subject` at
    # the site, or of raw outputs
    GUARD = "guard"  # the operations at `site` stay away from where they have no value or no slope
    MATCH_SHAPES = "match-shapes"  # the target of a regression loss gets the shape of the prediction, which has
    # `amount` axes of size 1 more at its end
    DIVIDE_LOSS = "divide-loss"  # by `amount`
    ZERO_GRADIENTS = "zero-gradients"  # once an update, before the gradients of the next are gathered
    TRAINING_MODE = "training-mode"  # of the model, in every training step
    EVALUATION_MODE = "evaluation-mode"  # of the model, where it is evaluated
    QUIET_EVALUATION = "quiet-evaluation"  # no dropout function drops anything in evaluation mode
    CAUSAL_MASK = "causal-mask"  # no position attends to later ones, and convolutions are padded on the left
    PADDING_MASK = "padding-mask"  # no position attends to padding, and what pools leaves it out
    IGNORE_LABELS = "ignore-labels"  # those equal to `amount` do not count in the loss
    IGNORE_PADDING = "ignore-padding"  # positions of padding do not count in the loss
    SHIFT_LABELS = "shift-labels"  # by one token more, from `amount` tokens ahead to the next one
    REPAIR_LABELS = "repair-labels"  # of a binary loss: what lies outside of 0 to 1 is brought there, or left out
    KEEP_GRAPH = "keep-graph"  # what `subject` at the site takes from the graph stays in it
    CLIP_UNSCALED = "clip-unscaled"  # the script's own clipping, when the loss scale is off the gradients again
    NONLINEARITY = "nonlinearity"  # a ReLU behind each of `layers`
    ADD_PARAMETERS = "add-parameters"  # those that get gradients and are in no optimizer join the first one
    HOLD_RATE = "hold-rate"  # the learning rate stays at its highest
    STEP_SCHEDULE = "step-schedule"  # the script's own schedule, at every update
    SHUFFLE = "shuffle"  # the samples of the recorded batches, in mixed batches
    FULL_PRECISION = "full-precision"  # weights and updates in float32
    SCALE_LOSS = "scale-loss"  # times `amount` in the backward, whose gradients are divided by it again
    ONE_SCALE = "one-scale"  # a loss scale of 1, at which no loss is left unscaled and no gradient scaled
    TIE_WEIGHTS = "tie-weights"  # of the two `layers`, the embedding first
    NO_DROPOUT = "no-dropout"
    BATCH_FIRST = "batch-first"  # recurrent and attention layers take the batch in the first dimension
    SWAP_AXES = "swap-axes"  # a view or reshape that is to give axes another order, or to merge heads, moves the values
    OWN_DERIVATIVE = "own-derivative"  # autograd's derivative of the forward of `subject` instead of its backward
    GROUP_NORM = "group-norm"  # instead of batch norm, with its weights
    NO_SINGLE_NORMS = "no-single-norms"  # norms over a single value, whose output is the same for every input
    LEARN_LAYERS = "learn-layers"  # the frozen weights of `layers` are trained as well
    FROZEN_NORMS = "frozen-norms"  # batch norms without a trained weight normalize by their averages
    RELU_UNITS = "relu-units"  # instead of the sigmoid or tanh between layers
    PAIRED_METRIC = "paired-metric"  # the metric at the site compares each prediction with its own label
    NO_AUXILIARY = "no-auxiliary"  # no terms of the loss beside torch's loss functions
    DROP_KNOWN = "drop-known"  # samples of the held-out loader `subject` that are training samples, too
    DROP_TWINS = "drop-twins"  # those of it that have a near-duplicate among the training samples
    DROP_GROUPS = "drop-groups"  # those of it whose group has training samples
    NO_PENALTY = "no-penalty"  # neither weight decay nor terms of the loss that depend on the weights alone


EVERY_OPERATION = "every operation"  # subject of a guard where the one that broke down only passed the trouble on

# What is carried out at the site alone: at another one it is another trial.
_OF_ONE_CALL = (RemedyKind.PAIRED_METRIC, RemedyKind.LEAVE_OUT, RemedyKind.SIGMOID, RemedyKind.SOFTMAX_AXIS)

# What is left out of the held-out data: out of those of another loader it is another trial.
OF_HELD_OUT = (RemedyKind.DROP_KNOWN, RemedyKind.DROP_TWINS, RemedyKind.DROP_GROUPS)

# Lower is better.
Metric = Literal[
    "loss",
    "loss of the data",
    "loss of the counted labels",
    "loss of the next token",
    "loss in evaluation mode",
    "log loss",
    "distance from the targets",
    "error of the reported figure",
    "error of the held-out loss",  # as a share of the loss without the samples that training knows
    "error rate of the repaired labels",
    "error rate",
    "balanced error rate",
    "change between evaluations",
    "influence of later tokens",
    "influence of padding",
    "influence of other samples",
]


class Remedy(Frozen):
    """One change. `site` is the user's line that it concerns: of the optimizer, the loader, the call to leave out."""

    kind: RemedyKind
    amount: float | None = None
    layers: tuple[str, ...] = ()
    site: Location | None = None
    subject: str = Field("", description="What it concerns: the name of a variable, a function, a class or its member.")
    mean: tuple[float, ...] = Field((), description="Per channel or feature, of what the model is given.")
    std: tuple[float, ...] = ()
    values: tuple[float, ...] = Field((), description="Weights of the classes.")

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for remedies that are one and the same trial."""
        place = (self.site.file, self.site.line) if self.site and self.kind in _OF_ONE_CALL else None
        return self.kind, self.amount, self.layers, self.subject if self.kind in OF_HELD_OUT else place


def keys(remedies: Iterable[Remedy]) -> tuple[tuple[object, ...], ...]:
    """Of remedies that are carried out together, in whatever order."""
    return tuple(sorted((remedy.key for remedy in remedies), key=repr))


class TrialRun(Frozen):
    """Remedies tried together, against the replayed loop as it is: same weights, same batches, same random numbers."""

    remedies: tuple[Remedy, ...]
    base: tuple[Remedy, ...] = Field((), description="Carried out in both arms: the fixes of other faults.")
    metric: Metric = Field("loss", description="Of the looks. Seldom the loss, where the remedy changes its meaning.")
    looks: tuple[PairedReplay, ...] = Field((), description="The second one is on other batches.")
    refused: str = Field("", description="Why it could not be tried.")

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for one and the same trial."""
        return keys(self.remedies), keys(self.base)


class Trials(Part):
    """What came of the remedies that were tried."""

    runs: tuple[TrialRun, ...]
    fidelity: float | None = None
