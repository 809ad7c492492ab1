"""How the program evaluates: the modes of its models, what its metrics compare, what its held-out passes hold."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part
from auditor.evidence.experiments import PairedReplay


class ModuleMode(Frozen):
    """One module that behaves differently in training and in evaluation mode, over the forwards of its model."""

    name: str
    kind: str = Field("", description="Class name.")
    role: Literal["dropout", "norm"] = "dropout"
    frozen: bool = Field(False, description="None of its own parameters is trained.")
    location: Location | None = None
    training_on: int = Field(0, description="Training forwards in which it was in training mode.")
    training_off: int = 0
    evaluation_on: int = Field(0, description="Evaluation forwards in which it was in training mode.")
    evaluation_off: int = 0


class ModelModes(Frozen):
    """One model's forwards. A training forward is one that a backward went through; an evaluation forward is one that
    none went through, on the batch of a held-out loader or followed by a loss or a comparison without gradients."""

    model: str
    location: Location | None = None
    training_forwards: int = 0
    evaluation_forwards: int = 0
    modules: tuple[ModuleMode, ...] = ()
    train_mode_evaluations: int = Field(0, description="Evaluation forwards while the model was in training mode.")
    repeated_evaluations: int = Field(0, description="Of those, passes over an input that was passed several times.")
    held_out_evaluations: int = Field(0, description="Of those, on the batch of a held-out loader.")
    measured_evaluations: int = Field(0, description="Of those, followed by a loss or a comparison with labels.")
    evaluation_location: Location | None = Field(None, description="The call of the first such forward.")
    train_location: Location | None = Field(None, description="The train() call that had set the mode, if any.")
    forgotten: int = Field(
        0, description="Training forwards in evaluation mode, left by an eval() whose first use was an evaluation."
    )
    forgotten_since: int | None = Field(None, description="Step of the first of them.")
    trained_before: int = Field(0, description="Training forwards in training mode before the first of them.")
    eval_location: Location | None = Field(None, description="The eval() call that set the mode of the first of them.")
    chosen: int = Field(0, description="Other training forwards in evaluation mode: so from the start, or on purpose.")
    graph_evaluations: int = Field(0, description="Evaluation forwards that built a graph that no backward used.")
    graph_location: Location | None = None


class DropoutCall(Frozen):
    """One place that calls a dropout function, over the watched forwards of modules that were in evaluation mode."""

    function: str
    module: str = Field("", description="The module whose code calls it.")
    kind: str = ""
    p: float = 0.0
    calls: int = Field(0, description="While that module was in evaluation mode and the model was evaluated.")
    active: int = Field(0, description="Of those, calls that dropped elements.")
    given: Literal["default", "literal", "expression", "rate", "module"] = Field(
        "default",
        description="How its `training` is given: not at all, as True, by an expression; 'rate': attention takes a "
        "dropout rate only; 'module': a Dropout module that is made anew in the forward.",
    )
    location: Location | None = None


class Modes(Part):
    """Which modules ran in which mode in training and in evaluation."""

    steps: int
    models: tuple[ModelModes, ...] = ()
    dropout_calls: tuple[DropoutCall, ...] = ()
    adversarial: bool = Field(False, description="Several optimizers take turns with backward calls of their own.")


class ModeEffect(Part):
    """One batch in both modes, after some steps of the replayed loop: the same weights, the same random numbers."""

    steps: int = Field(description="Replayed steps before the comparison.")
    output_change: float = Field(description="RMS difference of the outputs between the modes, over their own spread.")
    decisions_changed: float | None = Field(None, description="Share of rows with another largest output.")
    training_loss: float | None = Field(None, description="The user's own loss on that batch, training mode.")
    evaluation_loss: float | None = Field(None, description="The same in evaluation mode.")
    fidelity: float | None = None


class RandomDraw(Frozen):
    """An operation of the forward in evaluation mode that draws random numbers."""

    operation: str
    module: str = ""
    dropout: bool = Field(False, description="It drops elements at random; else it draws noise or samples.")
    given: Literal["", "default", "literal", "expression", "rate", "module", "mask"] = Field(
        "", description="How the mode is told to it; 'mask': dropout by hand, a mask that is drawn in any mode."
    )
    location: Location | None = None


class MeanDraw(Frozen):
    """A held-out loss of the script after some steps: of single draws, and with the mean of what is drawn."""

    steps: int
    samples: int
    drawn: float = Field(description="The loss, in the mean over several draws.")
    mean: float
    groups: PairedReplay = Field(description="Losses of groups of samples. Treated: with the mean of what is drawn.")


class EvaluationNoise(Part):
    """The same input through the model in evaluation mode, three times: with seeds a, b and a again."""

    difference: float = Field(description="RMS difference between the seeds, over the spread of the outputs.")
    repeats: bool = Field(description="With the same seed the outputs are equal bit for bit.")
    draws: tuple[RandomDraw, ...] = ()
    mean_draw: MeanDraw | None = None
    fidelity: float | None = None


class BroadcastComparison(Frozen):
    """One place that compares, subtracts or joins a vector and a column, or the like of higher rank, so that every
    prediction meets every label."""

    function: str = Field(
        description="'==' or '!=' for a comparison, '-' for a difference, '&', '|' and '*' for overlaps."
    )
    left: tuple[int, ...]
    right: tuple[int, ...]
    calls: int
    evaluation: bool = Field(description="Seen without gradients, in evaluation code.")
    known: Literal["predictions", "labels", "both"] = Field(description="What was recognised by its values.")
    paired: float | None = Field(
        None, description="Share of elements in pairs for which it holds; of '-', the mean square."
    )
    reported: float | None = Field(None, description="Sum of the matrix over its rows; of '-', its mean square.")
    errors: tuple[float, ...] = Field((), description="By how much the two differ, in each of the first calls.")
    location: Location | None = None


class SingleArgmax(Frozen):
    """One place that takes the largest of a single output, which is always number 0, and compares that with labels."""

    function: str
    shape: tuple[int, ...]
    calls: int
    location: Location | None = None
    compared_location: Location | None = None


class Comparisons(Part):
    """What metric code compares, outside of the model's forward."""

    compared: int = Field(description="Comparisons of tensors seen.")
    broadcast: tuple[BroadcastComparison, ...] = ()
    single: tuple[SingleArgmax, ...] = ()


class HeldOutPass(Frozen):
    """One pass over a held-out loader; samples are fingerprinted one by one in their order."""

    step: int
    samples: int
    complete: bool = Field(description="Neither the audit nor the script's own stopping cut it short.")


class HeldOutLoader(Frozen):
    """The first and the latest pass over one held-out loader, and some of its samples read twice."""

    loader: str
    location: Location | None = None
    passes: tuple[HeldOutPass, ...] = ()
    compared: int = Field(0, description="Samples at the same place in both passes.")
    same: int = Field(0, description="Of those, bit for bit the same.")
    found: int = Field(0, description="Samples of the second pass that are in the first, wherever.")
    shuffled: bool | None = None
    drop_last: bool = False
    reread: int = Field(0, description="Samples of its dataset that were asked for twice, with other random numbers.")
    changed: int = Field(0, description="Of those, samples that were not the same.")


class HeldOutPasses(Part):
    loaders: tuple[HeldOutLoader, ...]


class Choice(Frozen):
    """Something that the program decides by a held-out score."""

    what: Literal["checkpoint", "schedule"]
    metric: str = Field("", description="The compared expression, or the scheduler.")
    calls: int = 1
    by: tuple[str, ...] = Field(
        (), description="Data evaluated since the training step before it; '' of no known name."
    )
    location: Location | None = None


class Selection(Part):
    """What decides after each evaluation, and on which data."""

    loaders: tuple[str, ...] = Field(description="Names of all loaders that are no training data, used or not.")
    evaluated: str = Field("", description="The one that is evaluated after training steps.")
    names: tuple[str, ...] = Field((), description="What the source calls its data: loader, dataset, split.")
    official: bool = Field(False, description="The dataset itself says that it is the test split.")
    evaluations: int = Field(0, description="Passes over it after different numbers of training steps.")
    choices: tuple[Choice, ...] = ()
    location: Location | None = None
