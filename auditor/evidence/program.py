"""The pieces of the user's program, each with its place in the source."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from auditor.evidence.base import Frozen, Location, Part


class Layer(Frozen):
    """A module that directly owns parameters or buffers, or an activation."""

    name: str = Field(description="Qualified name in its model, e.g. 'features.0'.")
    kind: str
    parameters: int = 0
    trainable: int = 0
    shape: tuple[int, ...] = Field((), description="Shape of the weight, if there is one.")
    location: Location | None = None


class Model(Frozen):
    name: str = Field(description="The class name, numbered when several models share it.")
    kind: str
    parameters: int
    trainable: int
    location: Location | None = None
    layers: tuple[Layer, ...] = ()


class Optimizer(Frozen):
    kind: str
    learning_rates: tuple[float, ...] = Field(description="Per parameter group, as constructed.")
    momentum: float | None = None
    weight_decay: float | None = None
    parameters: int = 0
    steps: int = 0
    location: Location | None = None
    step_location: Location | None = None


class Scheduler(Frozen):
    kind: str
    steps: int = 0
    location: Location | None = None


class LossFunction(Frozen):
    """A loss function seen on the way to backward()."""

    name: str = Field(description="Functional name, e.g. 'cross_entropy'.")
    reduction: str = "mean"
    weighted: bool = False
    label_smoothing: float = 0.0
    ignore_index: int | None = None
    calls: int = 0
    location: Location | None = None


class Loader(Frozen):
    name: str = Field(description="The user's variable where the source tells it, else 'loader 1'.")
    role: Literal["training", "held-out", "unused"]
    dataset: str = Field("", description="Class name of the dataset.")
    samples: int | None = None
    batch_size: int | None = None
    sampler: str = ""
    shuffled: bool | None = None
    workers: int = 0
    drop_last: bool = False
    location: Location | None = None


class Clipping(Frozen):
    kind: Literal["norm", "value"]
    limit: float
    calls: int = 0
    location: Location | None = None


class ModeSwitch(Frozen):
    training: bool
    model: str
    step: int
    location: Location | None = None


class Program(Part):
    """The pieces of the user's program, each with its place in the source."""

    loop: Literal["loader", "tensors", "target"] = Field(
        description="'loader': fed by a DataLoader; 'tensors': get_batch, slices or full batch; 'target': our loop."
    )
    models: tuple[Model, ...] = ()
    optimizers: tuple[Optimizer, ...] = ()
    schedulers: tuple[Scheduler, ...] = ()
    losses: tuple[LossFunction, ...] = ()
    loaders: tuple[Loader, ...] = ()
    clippings: tuple[Clipping, ...] = ()
    mode_switches: tuple[ModeSwitch, ...] = ()
    manual_updates: bool = Field(False, description="Weights are updated without torch.optim.")
    backwards_per_step: float = 1.0
    closure: bool = Field(False, description="The optimizer's step is given a closure.")
    scaler: bool = Field(False, description="A GradScaler is in use.")
    autocast: str = Field("", description="dtype of autocast, '' when off.")
    loss_location: Location | None = Field(None, description="Where backward() is called.")
    module_kinds: tuple[str, ...] = Field((), description="Class names of all modules of the models, each once.")
