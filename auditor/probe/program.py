"""Everything the user's program has built so far, each with its place in the source."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from auditor.evidence import Location
from auditor.probe.naming import variable_at
from auditor.probe.registrations import Registrations
from auditor.probe.standins import Times

WRAPPERS = ("DataParallel", "DistributedDataParallel", "OptimizedModule", "FullyShardedDataParallel", "_FabricModule")


@dataclass
class OptimizerSeen:
    optimizer: torch.optim.Optimizer
    location: Location | None
    steps: int = 0
    closure: bool = False
    step_location: Location | None = None
    built_rates: tuple[float, ...] = ()
    built_at: int = 0  # parameters that had been registered by then

    @property
    def parameters(self) -> list[torch.Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"] if isinstance(p, torch.Tensor)]


@dataclass
class LoaderSeen:
    loader: Any
    location: Location | None
    name: str
    training_credits: int = 0
    held_out_credits: int = 0
    fetches: int = 0
    updates: dict[int, int] = field(default_factory=dict)  # id(optimizer) -> its steps on batches of this loader alone
    waited: float = 0.0  # seconds that the loop spent in waiting for its batches
    passes: list[list[Any]] = field(default_factory=list)  # of the first ones: the indices of each batch, in order
    # id(module) called with batches of the loader at hand -> ids of that module's parameters: each fold of a
    # cross-validation builds loaders and a model of its own
    models: dict[int, frozenset[int]] = field(default_factory=dict)

    def fed(self, module: nn.Module) -> None:
        if id(module) not in self.models:
            self.models[id(module)] = frozenset(id(parameter) for parameter in module.parameters())

    @property
    def is_held_out(self) -> bool:
        """Evaluated on, or not used so far: a test set may wait for the end. A spare one of training data does not
        count, which only its name tells."""
        return not self.training_credits and (self.held_out_credits > 0 or "train" not in self.name.lower())

    def shares_model(self, other: LoaderSeen) -> bool:
        """True when both feed one model, or it is not known what they feed."""
        mine, its = (frozenset().union(*seen.models.values()) for seen in (self, other))
        return not mine or not its or bool(mine & its)

    @property
    def role(self) -> str:
        if self.training_credits:
            return "training"
        return "held-out" if self.held_out_credits else "unused"


@dataclass
class SwitchSeen:
    model: str
    training: bool
    step: int
    location: Location | None


@dataclass
class ProgramSeen:
    """Registers what the taps report. Holds optimizers and loaders; modules only weakly."""

    step: int = 0
    optimizers: list[OptimizerSeen] = field(default_factory=list)
    loaders: list[LoaderSeen] = field(default_factory=list)
    schedulers: list[tuple[Any, Location | None]] = field(default_factory=list)
    scalers: list[Any] = field(default_factory=list)
    scaler_location: Location | None = None  # where the latest one was built
    autocasts: dict[Any, Location | None] = field(default_factory=dict)  # dtype, entered with gradients -> first place
    switches: list[SwitchSeen] = field(default_factory=list)
    kept: list[nn.Module] = field(default_factory=list)
    companions: list[nn.Module] = field(default_factory=list)  # called, not trained: teachers, averages, targets
    registrations: Registrations = field(default_factory=Registrations)
    times: Times = field(default_factory=Times)

    def __post_init__(self) -> None:
        # By id, not by hash: libraries' modules have a __hash__ and __eq__ that do not work while they are built.
        self._modules: dict[int, tuple[weakref.ref[nn.Module], Location | None]] = {}
        self._held: set[int] = set()
        self._loaded: list[weakref.ref[nn.Module]] = []
        self._loose: list[torch.Tensor] = []
        self.changed: Callable[[], None] = lambda: None

    # --------------------------------------------------------------------------------------------- reported by taps

    def module_built(self, module: nn.Module, location: Location | None) -> None:
        key = id(module)
        self.times.built(module, self.registrations.count, self.step)
        self._modules[key] = (weakref.ref(module, lambda _: self._modules.pop(key, None) and None), location)

    def weights_loaded(self, module: nn.Module) -> None:
        self._loaded.append(weakref.ref(module))
        self.times.loaded(module, self.registrations.count)

    def mode_switched(self, module: nn.Module, training: bool, location: Location | None) -> None:
        if len(self.switches) < 200 and location is not None:
            self.switches.append(SwitchSeen(type(module).__name__, training, self.step, location))

    def optimizer_built(self, optimizer: torch.optim.Optimizer, location: Location | None) -> None:
        rates = tuple(_number(group.get("lr")) for group in optimizer.param_groups)
        seen = OptimizerSeen(optimizer, location, built_rates=rates, built_at=self.registrations.count)
        self.optimizers.append(seen)
        self._held.update(id(parameter) for parameter in seen.parameters)
        self.changed()

    def scheduler_built(self, scheduler: Any, location: Location | None) -> None:
        if all(known is not scheduler for known, _ in self.schedulers):
            self.schedulers.append((scheduler, location))

    def scaler_built(self, scaler: Any, location: Location | None) -> None:
        self.scalers.append(scaler)
        self.scaler_location = location

    def loader_built(self, loader: Any, location: Location | None) -> None:
        self.loader(loader, location)

    def loader(self, loader: Any, location: Location | None = None) -> LoaderSeen:
        """The record of a loader, made when it is new. One built anew every epoch, at the same place over samples of
        the same kind and number, keeps its record."""
        for seen in self.loaders:
            if seen.loader is loader:
                return seen
        for seen in self.loaders:
            if location is not None and seen.fetches and seen.location == location and _twins(seen.loader, loader):
                seen.loader, seen.models = loader, {}
                return seen
        seen = LoaderSeen(loader, location, self._new_name(variable_at(location)))
        self.loaders.append(seen)
        return seen

    def _new_name(self, variable: str) -> str:
        """A loader's name, numbered when several come from one line."""
        wanted = variable or f"loader {len(self.loaders) + 1}"
        taken = {seen.name for seen in self.loaders}
        numbered = (f"{wanted} {number}" for number in range(2, len(taken) + 2))
        return wanted if wanted not in taken else next(name for name in numbered if name not in taken)

    def loose_parameters(self, leaves: list[torch.Tensor]) -> None:
        """Leaves of the graph that no module owns, in a loop without modules and without torch.optim."""
        self._loose = leaves

    # ------------------------------------------------------------------------------------------------------- questions

    def seen(self, optimizer: torch.optim.Optimizer) -> OptimizerSeen:
        for known in self.optimizers:
            if known.optimizer is optimizer:
                return known
        self.optimizer_built(optimizer, None)  # built without calling Optimizer.__init__ through our patch
        return self.optimizers[-1]

    def stepped(self) -> list[OptimizerSeen]:
        return [seen for seen in self.optimizers if seen.steps]

    def is_trained(self, module: nn.Module) -> bool:
        """True when an optimizer holds one of its parameters; without optimizers, when one requires a gradient."""
        if self._held:
            # Parameters may have joined later, by add_param_group.
            held = self._held
            trained = any(id(parameter) in held for parameter in module.parameters())
        else:
            trained = any(parameter.requires_grad for parameter in module.parameters())
        if trained and all(known is not module for known in self.kept):
            self.kept.append(module)
        return trained

    def is_companion(self, module: nn.Module) -> bool:
        """True for a model that is called but not trained, and no larger than what is: a moving average, a teacher, a
        target network. Such a one may follow the trained weights, and so belongs to the state of the loop."""
        own = sum(parameter.numel() for parameter in module.parameters())
        return 0 < own <= sum(parameter.numel() for parameter in self.trained_parameters())

    def location_of(self, module: nn.Module | None) -> Location | None:
        known = self._modules.get(id(module)) if module is not None else None
        return known[1] if known is not None and known[0]() is module else None

    def alive(self) -> list[nn.Module]:
        """Every module that was built since the start and still exists, in the order of construction."""
        found = [reference() for reference, _ in list(self._modules.values())]
        return [module for module in found if module is not None and hasattr(module, "_parameters")]

    def loaded_ids(self) -> set[int]:
        """ids of the modules that were given weights by load_state_dict()."""
        return {id(module) for reference in self._loaded if (module := reference()) is not None}

    def was_loaded(self) -> bool:
        """True when weights were loaded into a model that is trained now."""
        return any(module() is model for module in self._loaded for _, model in self.models())

    def has_loaded(self, module: nn.Module) -> bool:
        """True when weights were loaded into this module itself."""
        return any(loaded() is module for loaded in self._loaded)

    def models(self) -> list[tuple[str, nn.Module]]:
        """The trained models, outermost module each, with a name; wrappers looked through."""
        names: dict[str, int] = {}
        result: list[tuple[str, nn.Module]] = []
        for module in self._outermost():
            while type(module).__name__ in WRAPPERS and len(list(module.children())) == 1:
                module = next(module.children())
            kind = type(module).__name__
            names[kind] = names.get(kind, 0) + 1
            result.append((kind if names[kind] == 1 else f"{kind} {names[kind]}", module))
        return result

    def _outermost(self) -> list[nn.Module]:
        """The called roots, each replaced by the outermost module that contains it: parts of a model may be called
        one by one (`model.encoder(x)`)."""
        parents: dict[int, nn.Module] = {}
        for reference, _ in list(self._modules.values()):
            module = reference()
            for child in module._modules.values() if module is not None else ():
                if child is not None and module is not None:
                    parents.setdefault(id(child), module)
        found: list[nn.Module] = []
        for module in self.kept:
            if not self.is_trained(module):
                continue
            while id(module) in parents:
                module = parents[id(module)]
            if all(module is not known for known in found):
                found.append(module)
        return found

    def layers(self) -> Iterator[tuple[str, nn.Module]]:
        """(qualified name, module) of every module that owns parameters directly, in the models' order."""
        models = self.models()
        for name, model in models:
            for path, module in model.named_modules():
                if any(True for _ in module.parameters(recurse=False)):
                    prefix = f"{name}." if len(models) > 1 else ""
                    yield prefix + (path or name), module

    def parameter_layers(self) -> dict[int, tuple[str, nn.Module, str]]:
        """id(parameter) -> (layer name, layer, the parameter's own name)."""
        found: dict[int, tuple[str, nn.Module, str]] = {}
        for name, layer in self.layers():
            for own, parameter in layer.named_parameters(recurse=False):
                found.setdefault(id(parameter), (name, layer, own))
        return found

    def module_names(self) -> dict[int, str]:
        """id(module) -> qualified name, for all modules of the models."""
        models = self.models()
        found: dict[int, str] = {}
        for name, model in models:
            for path, module in model.named_modules():
                prefix = f"{name}." if len(models) > 1 and path else ""
                found.setdefault(id(module), prefix + (path or name))
        return found

    def trained_parameters(self) -> list[torch.Tensor]:
        """Parameters of the optimizers that have stepped; without any, all that require a gradient."""
        seen: dict[int, torch.Tensor] = {}
        for record in self.stepped() or self.optimizers:
            for parameter in record.parameters:
                seen.setdefault(id(parameter), parameter)
        if not seen:
            for module in self.kept:
                for parameter in module.parameters():
                    if parameter.requires_grad:
                        seen.setdefault(id(parameter), parameter)
        for parameter in self._loose if not seen else ():
            seen.setdefault(id(parameter), parameter)
        return list(seen.values())


def _twins(one: Any, other: Any) -> bool:
    """True for loaders that hand out their samples in the same way, and the same ones or as many of the same kind."""
    alike = type(sampler_of(one)) is type(sampler_of(other))
    alike = alike and getattr(one, "batch_size", 0) == getattr(other, "batch_size", 0)
    return alike and (same_samples(one, other) or _like_samples(one, other))


def _like_samples(one: Any, other: Any) -> bool:
    mine, its = getattr(one, "dataset", None), getattr(other, "dataset", None)
    if mine is its or type(mine) is not type(its):
        return False
    try:
        return len(mine) == len(its)  # type: ignore[arg-type]
    except TypeError:
        return True  # streams


def same_samples(one: Any, other: Any) -> bool:
    """True for loaders over the same dataset object and the same part of it."""
    dataset = getattr(one, "dataset", None)
    return dataset is not None and dataset is getattr(other, "dataset", None) and chosen(one) == chosen(other)


def sampler_of(loader: Any) -> Any:
    """The sampler that orders the samples: libraries hide it inside batch samplers and leave a dummy in `sampler`."""
    sampler = getattr(loader, "batch_sampler", None)
    for _ in range(4):
        inner = getattr(sampler, "batch_sampler", None) or getattr(sampler, "sampler", None)
        if inner is None:
            break
        sampler = inner
    return sampler if sampler is not None else getattr(loader, "sampler", None)


def chosen(loader: Any) -> list[int] | None:
    """The part of the dataset that a sampler with `indices` (SubsetRandomSampler) restricts the loader to."""
    indices = getattr(sampler_of(loader), "indices", None)
    try:
        return [int(index) for index in indices] if indices is not None else None
    except (TypeError, ValueError):
        return None


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
