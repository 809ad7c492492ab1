"""How the user's model hangs together: what it hides, what reaches its weights, what its outputs depend on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part


class HiddenModule(Frozen):
    """Weights that one attribute of a module holds where `named_parameters()` does not look."""

    holder: str = Field(description="Qualified name of the attribute, e.g. 'Net.blocks'.")
    container: str = Field(description="Class of the attribute's value: 'list', 'dict', the user's own.")
    kinds: tuple[str, ...] = Field((), description="Classes of what it holds, each once.")
    modules: int = 0
    parameters: int = Field(description="Elements that require a gradient.")
    reached: int = Field(description="Watched steps at which a gradient had arrived in them.")
    optimized: bool = Field(False, description="An optimizer holds them all the same.")
    moved: bool = Field(False, description="They changed during the observed steps.")
    training: bool = Field(True, description="Some of the modules is in training mode.")
    loaded: bool = Field(False, description="Weights were loaded into them.")
    location: Location | None = Field(None, description="Where the first of them was built.")


class HiddenModules(Part):
    steps: int = Field(description="Watched steps.")
    registered: int = Field(0, description="Elements of the models' own parameters.")
    found: tuple[HiddenModule, ...] = ()


class Unreached(Frozen):
    """Parameters of one layer that an optimizer holds, that require a gradient and never had one."""

    name: str
    kind: str = ""
    parameters: int = Field(description="Elements.")
    optimizer: str = ""
    steps: int = Field(description="Steps of that optimizer.")
    moved: bool = Field(False, description="They changed all the same: moved by hand, as a moving average is.")
    location: Location | None = None


class CutRecurrence(Frozen):
    """A module that is called several times in a step, each time on what it has returned itself, without its graph."""

    name: str
    kind: str = ""
    cell: bool = Field(False, description="One of torch's recurrent layers or cells.")
    calls: int
    cut: int = Field(description="Calls that were given an earlier result without its graph.")
    kept: int = Field(0, description="Calls that were given one with its graph.")
    reached: int = Field(description="Calls whose result the loss has a gradient for.")
    location: Location | None = Field(None, description="Where it is called so.")


class GradientReach(Part):
    steps: int = Field(description="The most steps that one optimizer took.")
    parameters: int = Field(description="Elements that optimizers hold and that require a gradient.")
    unreached: tuple[Unreached, ...] = ()
    rootless: int = Field(0, description="Backward calls on a tensor that is no result of any operation.")
    recurrences: tuple[CutRecurrence, ...] = ()
    backward_location: Location | None = None


class GraphCut(Frozen):
    """Weights without a gradient, and what happens to the loss when they are changed."""

    layers: tuple[str, ...]
    parameters: int
    change: float = Field(description="Relative change of the first loss when these weights are disturbed.")
    noise: float = Field(0.0, description="The same without a disturbance.")
    operation: str = Field("", description="What cut the graph: 'detach', 'item', 'no_grad', ...; '' unknown.")
    location: Location | None = None
    others: tuple[str, ...] = Field((), description="Further cuts of the same weights, as 'item in line 40'.")
    loaded: bool = Field(False, description="Weights were loaded into the model that they belong to.")
    training: bool = Field(True, description="Their layers are in training mode.")


class GraphCuts(Part):
    """Replay of one step with disturbed weights, for weights that never had a gradient."""

    cuts: tuple[GraphCut, ...]
    fidelity: float | None = None


class CrossSample(Part):
    """Calls of the model in evaluation mode in which single samples of a batch were replaced by others."""

    module: str
    batch_size: int
    replaced: int = Field(description="Samples that were replaced, one at a time.")
    mixing: int = Field(description="Of these, how many moved the output of some other sample beyond the noise.")
    moved: float = Field(description="Largest change of another sample's output, relative to the size of the outputs.")
    own: float = Field(0.0, description="The same for the replaced sample's own output.")
    unmoved: int = Field(0, description="Of the mixing ones, how many did not move their own output.")
    noise: float = Field(description="Limit of what counts as no change, relative: rounding and repeated calls.")
    others: float = Field(0.0, description="Share of the other samples that moved, largest over the replacements.")
    swap_error: float | None = Field(None, description="Two samples swapped: by how much outputs are not swapped too.")
    placed: float | None = Field(
        None,
        description="Batch in reverse order: share of samples whose output changed with their place. None: not asked.",
    )
    place_error: float = Field(0.0, description="Largest such change, relative to the size of the outputs.")
    random: bool = Field(False, description="Calls with other random numbers gave other outputs.")
    batch_statistics: tuple[str, ...] = Field((), description="Norm layers without running statistics.")
    through: str = Field("", description="Operation over the batch that it goes through, as 'mean', 'softmax'.")
    sequence_first: bool = Field(False, description="`layer` is torch's own, and set to take the sequence first.")
    layer: str = Field("", description="The first module whose output for another sample moved.")
    layer_kind: str = ""
    location: Location | None = None
    model_location: Location | None = None


class IgnoredInput(Frozen):
    """A tensor that the model is called with, and that no output depends on."""

    name: str = Field("", description="What the model's forward() calls it.")
    shape: tuple[int, ...] = ()


class EmbeddingLookups(Frozen):
    """What one embedding was asked for in the sampled steps."""

    name: str
    rows: int
    lowest: int
    highest: int
    lookups: int
    location: Location | None = None


class EmbeddingRows(Part):
    """The embeddings, and the rows of them that training asks for."""

    layers: tuple[EmbeddingLookups, ...]
    fractions_only: bool = Field(description="The model is called with no integers: the ids are made from fractions.")


class UnreadPlaces(Frozen):
    """An input of which the outputs depend on a few places along an axis only."""

    name: str = Field("", description="What the model's forward() calls it.")
    shape: tuple[int, ...]
    axis: int
    read: tuple[int, ...] = Field(description="Places along the axis that an output depends on.")


class InputUse(Part):
    """The same pinned batch with its inputs, and with one sample's inputs in place of everybody's."""

    module: str
    samples: int = Field(description="Samples in the pinned batch.")
    steps: int = Field(description="Steps of the longer arms.")
    real: tuple[float, ...] = ()
    constant: tuple[float, ...] = ()
    output_change: float | None = Field(
        None, description="Largest change of an output when the inputs change, relative, after the steps of `examined`."
    )
    examined: int = Field(0, description="Steps that had been taken when the outputs were compared.")
    changed_inputs: int = Field(0, description="Tensors that the model is called with and that were exchanged.")
    ignored: tuple[IgnoredInput, ...] = Field(
        (), description="Of several inputs, those without any effect by themselves."
    )
    one_row: tuple[EmbeddingLookups, ...] = Field(
        (), description="Embeddings asked for one row alone, in a model that is called with no integers."
    )
    unread: tuple[UnreadPlaces, ...] = Field((), description="Inputs of which little is read.")
    same_targets: bool | None = Field(None, description="Both arms were given the same targets; None: not known.")
    refused: str = Field("", description="Why the model could not be called with one sample's inputs for all.")
    distinct_inputs: bool = Field(True, description="The samples' inputs differ from each other.")
    distinct_targets: bool | None = Field(None, description="The samples' targets differ from each other.")
    fidelity: float | None = None
    loss_function: str = ""
    location: Location | None = None
    model_location: Location | None = None


class LinearPair(Frozen):
    """Two layers of which the second gets nothing but the output of the first, with no nonlinearity between."""

    first: str
    second: str
    first_kind: str
    second_kind: str
    before: int = Field(description="Width (features or channels) of the first layer's input.")
    inner: int
    after: int = Field(description="Width of the second layer's output.")
    weights: int = Field(0, description="Elements of both weights.")
    needed: int = Field(0, description="Elements of the weight of one layer that computes the same.")
    dropout: bool = Field(False, description="A dropout lies between them.")
    averaged: bool = Field(False, description="An average pooling lies between them.")
    norm: bool = Field(False, description="A batch norm lies between them, which is linear in evaluation.")
    location: Location | None = Field(None, description="Where the second layer is built.")


class BiasedNorm(Frozen):
    """A layer whose bias a batch norm takes away again."""

    layer: str
    norm: str
    bias: int = Field(description="Elements of the bias.")
    location: Location | None = None


class LayerChains(Part):
    """Which layer feeds which, as seen on the autograd graph of the first steps."""

    linear: int = Field(description="Linear and convolutional layers seen.")
    norms: int = Field(description="Batch norms seen that used the statistics of their batch.")
    whole: bool = Field(False, description="The pairs are all there is: the network is linear from end to end.")
    pairs: tuple[LinearPair, ...] = ()
    biased: tuple[BiasedNorm, ...] = ()


class CustomFunction(Frozen):
    """One of the user's own autograd functions, compared with central differences on inputs of the loop.

    surrogate: its output does not change with an input, so that a gradient can only be a stand-in. identity: its
    output is its input. clipped: its backward is not linear in the gradient that it gets.
    """

    name: str
    verdict: Literal["right", "wrong", "surrogate", "identity", "clipped", "unchecked"]
    input: int = Field(0, description="Position of the worst input among the arguments.")
    missing: bool = Field(False, description="The backward returns no gradient for that input.")
    error: float = Field(0.0, description="Median relative error of the directional derivatives.")
    ratio: float | None = Field(None, description="Its gradient over the right one, where they are proportional.")
    directions: int = 0
    dtype: str = "float64"
    reason: str = Field("", description="Why it was not checked.")
    location: Location | None = Field(None, description="Where it is applied.")


class CustomFunctions(Part):
    functions: tuple[CustomFunction, ...]
