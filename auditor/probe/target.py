"""Files without a training loop: what to train is declared by `audit_target()` or recognised among their objects."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from auditor.probe.reference import train
from auditor.target import Target

if TYPE_CHECKING:
    from auditor.probe.probe import Probe


def train_target(probe: Probe, script: ModuleType) -> None:
    """Train what the file declares with the reference loop. Does nothing when there is nothing to train."""
    target = declared(script, probe.notes)
    if target is not None:
        probe.is_target = True
        train(target, probe)
        return
    try:
        target = recognised(script, probe.notes)
        if target is not None:
            probe.is_target = True
            train(target, probe)
    except Exception as error:  # nobody asked for this loop: the script itself has not failed
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        probe.notes.append(f"Training what was recognised did not work ({reason}); declare it with audit_target().")


def declared(script: ModuleType, notes: list[str]) -> Target | None:
    """Raises TypeError when `audit_target` does not return a Target."""
    make = getattr(script, "audit_target", None)
    if make is None:
        return None
    target = make() if callable(make) else make
    if not isinstance(target, Target):
        raise TypeError(f"audit_target() must return auditor.Target, not {type(target).__name__}")
    notes.append("The file has no training loop; what to train is declared by its audit_target().")
    return target


def recognised(script: ModuleType, notes: list[str]) -> Target | None:
    """Module-level objects, or classes and functions that can be called without arguments, by their kind and name."""
    own = {
        name: value
        for name, value in vars(script).items()
        if (not name.startswith("_") and getattr(value, "__module__", "__main__") in ("__main__", None))
        or _is_object(value)
    }
    model, model_name = _model(own)
    if model is None:
        return None
    target = Target(model=model)
    chosen = [f"model = {model_name}"]
    for role, words in (("train", ("train",)), ("validation", ("val", "dev")), ("test", ("test",))):
        found = _data(own, words)
        if found is not None:
            setattr(target, role, found[1])
            chosen.append(f"{role} = {found[0]}")
    if target.train is None:
        data = [(name, value) for name, value in own.items() if isinstance(value, DataLoader | Dataset)]
        used = (target.validation, target.test)
        rest = [(name, value) for name, value in data if all(value is not other for other in used)]
        if len(rest) == 1:
            target.train = rest[0][1]
            chosen.append(f"train = {rest[0][0]}")
    if target.train is None:
        notes.append(f"A model was recognised ({model_name}), but no training data.")
        return None
    for name, value in own.items():
        if target.loss is None and _is_loss(name, value):
            target.loss = value
            chosen.append(f"loss = {name}")
        elif isinstance(value, torch.optim.Optimizer) and target.optimizer is None:
            target.optimizer = value
            chosen.append(f"optimizer = {name}")
    notes.append("The file has no training loop; recognised in it: " + ", ".join(chosen) + ".")
    return target


def _is_object(value: Any) -> bool:
    return isinstance(value, nn.Module | Dataset | DataLoader | torch.optim.Optimizer)


def _is_loss(name: str, value: Any) -> bool:
    if isinstance(value, nn.modules.loss._Loss):
        return True
    named = any(word in name.lower() for word in ("loss", "criterion"))
    return named and callable(value) and not inspect.isclass(value)


def _model(own: dict[str, Any]) -> tuple[Any, str]:
    objects = [
        (name, value)
        for name, value in own.items()
        if isinstance(value, nn.Module)
        and not isinstance(value, nn.modules.loss._Loss)
        and any(True for _ in value.parameters())
    ]
    if objects:
        named = [pair for pair in objects if pair[0].lower() in ("model", "net", "network")]
        name, value = (named or objects)[-1]
        return value, name
    classes = [
        (name, value)
        for name, value in own.items()
        if inspect.isclass(value) and issubclass(value, nn.Module) and _callable_without_arguments(value)
    ]
    factories = [
        (name, value)
        for name, value in own.items()
        if inspect.isfunction(value) and "model" in name.lower() and _callable_without_arguments(value)
    ]
    makers: list[tuple[str, Callable[[], Any]]] = [*factories, *reversed(classes)]
    for name, make in makers:
        built = make()
        if isinstance(built, nn.Module) and any(True for _ in built.parameters()):
            return built, f"{name}()"
    return None, ""


def _data(own: dict[str, Any], words: tuple[str, ...]) -> tuple[str, Any] | None:
    named = [(name, value) for name, value in own.items() if any(word in name.lower() for word in words)]
    for kinds in (DataLoader, Dataset):
        for name, value in named:
            if isinstance(value, kinds):
                return name, value
    for name, value in named:
        if (
            inspect.isfunction(value)
            and _callable_without_arguments(value)
            and any(word in name.lower() for word in ("data", "loader", "set"))
        ):
            built = value()
            if isinstance(built, DataLoader | Dataset):
                return f"{name}()", built
    return None


def _callable_without_arguments(value: Any) -> bool:
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return False
    return all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)
