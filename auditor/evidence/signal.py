"""How the size of a signal develops through the layers of one forward pass."""

from __future__ import annotations

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part
from auditor.evidence.experiments import PairedReplay


class LayerScale(Frozen):
    """Output of one linear or convolutional layer in the first training forward."""

    name: str
    kind: str
    location: Location | None = None
    std: float = Field(description="Over all elements of its output.")
    signal: float | None = Field(
        None, description="The same over samples and positions alone, root mean square over the units."
    )
    activation: str = Field("", description="The activation function that follows, '' when none was seen.")
    fan_in: int = 0
    weight_std: float = 0.0
    loaded: bool = Field(False, description="Weights were loaded into the model that it is part of.")


class RecurrentScale(Frozen):
    """One recurrent layer before the first step."""

    name: str
    kind: str
    location: Location | None = None
    gain: float = Field(
        description="Largest std of a recurrent matrix times the root of its fan-in; torch's own: 0.58."
    )
    flat: float | None = Field(
        None, description="Share of gates and candidates with less than 1 % of the largest slope, in the first forward."
    )
    flat_standardized: float | None = Field(
        None, description="The same, were each feature of what the layer receives standardized."
    )
    loaded: bool = False


class ForwardScale(Part):
    """Output sizes before the first step, in the order of execution, no normalization in between."""

    layers: tuple[LayerScale, ...]
    recurrent: tuple[RecurrentScale, ...] = ()
    input_std: float = 0.0
    normalized: bool = Field(False, description="The model has normalization layers.")
    residual: bool = Field(False, description="Results of different layers are added, joined or multiplied.")


class Reinitialized(Part):
    """Replay with weights drawn anew for the activation that follows each layer (He, Glorot)."""

    layers: int
    extreme: tuple[str, ...] = Field((), description="Layers redrawn because of the size of their own weights.")
    looks: tuple[PairedReplay, ...]
    fidelity: float | None = None


class CalmedRecurrence(Part):
    """Replay with what enters saturated recurrent layers standardized by constants."""

    layers: tuple[str, ...] = Field(description="Names, as in ForwardScale.")
    looks: tuple[PairedReplay, ...]
    fidelity: float | None = None


class SaturatedLayer(Frozen):
    """Units of one hidden tanh, sigmoid or hardtanh."""

    name: str = Field(description="The layer that feeds it.")
    function: str
    location: Location | None = None
    units: int
    saturated_start: int = Field(description="Units that were saturated for most samples at the first sampled steps.")
    saturated_end: int = Field(description="The same at the last third of the sampled steps.")
    share_start: float = Field(description="Share of all outputs whose slope is below 1 % of the largest.")
    share_end: float
    samples: int


class Saturation(Part):
    """Bounded activations inside the model; gates, attention weights and the last layer are left out."""

    steps: tuple[int, ...]
    layers: tuple[SaturatedLayer, ...]
