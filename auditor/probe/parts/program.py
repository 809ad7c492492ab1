"""The pieces of the program, each with its place in the source."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.data import RandomSampler, SequentialSampler, WeightedRandomSampler

from auditor.evidence import (
    Clipping,
    Layer,
    Loader,
    Location,
    LossFunction,
    Model,
    ModeSwitch,
    Optimizer,
    Program,
    Scheduler,
)
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.held import held
from auditor.probe.losscall import LossCall
from auditor.probe.program import LoaderSeen, OptimizerSeen, sampler_of
from auditor.probe.rewind import is_lazy
from auditor.probe.steps import StepSeen


class ProgramCollector(Collector):
    name = "program"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._losses: dict[tuple[str, Location | None], LossFunction] = {}
        self._clippings: dict[tuple[str, float, Location | None], int] = {}
        self._backwards = 0
        self._backward_location: Location | None = None
        self._autocast = ""

    def loss_called(self, call: LossCall) -> None:
        key = (call.name, call.location)
        known = self._losses.get(key)
        if known is not None:
            self._losses[key] = known.model_copy(update={"calls": known.calls + 1})
            return
        weighted = any(call.options.get(name) is not None for name in ("weight", "pos_weight"))
        smoothing = call.options.get("label_smoothing", 0.0)
        self._losses[key] = LossFunction(
            name=call.name,
            reduction=call.reduction,
            weighted=weighted,
            label_smoothing=float(smoothing or 0.0),
            ignore_index=call.options.get("ignore_index"),
            calls=1,
            location=call.location,
        )

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if not self._autocast:
            for device in ("cuda", "cpu"):
                if torch.is_autocast_enabled(device):
                    self._autocast = str(torch.get_autocast_dtype(device)).removeprefix("torch.")

    def clipped(self, kind: str, limit: float, result: Any, location: Location | None) -> None:
        key = (kind, limit, location)
        self._clippings[key] = self._clippings.get(key, 0) + 1

    def step_ended(self, step: StepSeen) -> None:
        self._backwards += len(step.backwards)
        if self._backward_location is None and step.backwards:
            self._backward_location = step.backwards[0].location

    def backwards_per_step(self) -> float:
        return self._backwards / max(1, self.probe.observed)

    def part(self) -> Program:
        seen = self.probe.program
        if not seen.kept and not self._backwards:
            raise Unavailable("no training step was seen", "inconclusive")
        if self.probe.is_target:
            loop = "target"
        else:
            loop = "loader" if any(loader.role == "training" for loader in seen.loaders) else "tensors"
        return Program(
            loop=loop,
            models=tuple(self._model(name, model) for name, model in seen.models()),
            module_kinds=tuple(sorted({type(each).__name__ for _, model in seen.models() for each in model.modules()})),
            optimizers=tuple(_optimizer(record) for record in seen.optimizers),
            schedulers=tuple(
                Scheduler(kind=type(scheduler).__name__, steps=max(0, int(scheduler.last_epoch)), location=location)
                for scheduler, location in seen.schedulers
            ),
            losses=tuple(self._losses.values()),
            loaders=tuple(describe_loader(loader) for loader in seen.loaders),
            clippings=tuple(
                Clipping(kind=kind, limit=limit, calls=calls, location=location)
                for (kind, limit, location), calls in self._clippings.items()
            ),
            mode_switches=tuple(
                ModeSwitch(training=s.training, model=s.model, step=s.step, location=s.location) for s in seen.switches
            ),
            manual_updates=self.probe.manual(),
            backwards_per_step=round(self.backwards_per_step(), 3),
            closure=any(record.closure for record in seen.optimizers),
            scaler=bool(seen.scalers),
            autocast=self._autocast,
            loss_location=self._backward_location,
        )

    def _model(self, name: str, model: nn.Module) -> Model:
        layers = []
        for path, module in model.named_modules():
            own = list(module.parameters(recurse=False))
            if not own and any(True for _ in module.children()):
                continue
            weight = held(module, "weight")
            layers.append(
                Layer(
                    name=path or name,
                    kind=type(module).__name__,
                    parameters=_count(own),
                    trainable=_count([p for p in own if p.requires_grad]),
                    shape=tuple(weight.shape) if weight is not None and not is_lazy(weight) else (),
                    location=self.probe.program.location_of(module),
                )
            )
        parameters = list(model.parameters())
        return Model(
            name=name,
            kind=type(model).__name__,
            parameters=_count(parameters),
            trainable=_count([p for p in parameters if p.requires_grad]),
            location=self.probe.program.location_of(model),
            layers=tuple(layers),
        )


def _count(parameters: list[Any]) -> int:
    return sum(p.numel() for p in parameters if not is_lazy(p))


def _optimizer(record: OptimizerSeen) -> Optimizer:
    group = record.optimizer.param_groups[0] if record.optimizer.param_groups else {}
    momentum = group.get("momentum")
    decay = group.get("weight_decay")
    return Optimizer(
        kind=type(record.optimizer).__name__,
        learning_rates=record.built_rates,
        momentum=float(momentum) if isinstance(momentum, int | float) else None,
        weight_decay=float(decay) if isinstance(decay, int | float) else None,
        parameters=sum(p.numel() for p in record.parameters if not is_lazy(p)),
        steps=record.steps,
        location=record.location,
        step_location=record.step_location,
    )


def describe_loader(record: LoaderSeen) -> Loader:
    loader = record.loader
    sampler = sampler_of(loader)
    shuffled: bool | None = None
    if isinstance(sampler, RandomSampler | WeightedRandomSampler):
        shuffled = True
    elif isinstance(sampler, SequentialSampler):
        shuffled = False
    dataset = getattr(loader, "dataset", None)
    batch_size = getattr(loader, "batch_size", None) or getattr(
        getattr(loader, "batch_sampler", None), "batch_size", None
    )
    return Loader(
        name=record.name,
        role=record.role,
        dataset=type(dataset).__name__,
        samples=length(dataset),
        batch_size=batch_size if isinstance(batch_size, int) else None,
        sampler=type(sampler).__name__ if sampler is not None else "",
        shuffled=shuffled,
        workers=int(getattr(loader, "num_workers", 0) or 0),
        drop_last=bool(getattr(loader, "drop_last", False)),
        location=record.location,
    )


def length(dataset: Any) -> int | None:
    """len(), None for datasets that have none."""
    try:
        return len(dataset)
    except Exception:
        return None
