"""Modules: where they are built, when they are called, when they are switched between training and evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from auditor.probe.locate import construction_location, user_location
from auditor.probe.probe import Probe
from auditor.probe.taps.patching import replace, wrap


def install(probe: Probe) -> None:
    wrap(nn.Module, "__init__", lambda original: _construction(probe, original))
    wrap(nn.Module, "train", lambda original: _mode_switch(probe, original))
    if probe.collectors.hears("weights_read"):
        wrap(nn.Module, "state_dict", lambda original: _reading(probe, original))
    wrap(nn.Module, "load_state_dict", lambda original: _loading(probe, original))
    register_module_parameter_registration_hook(_registration(probe))
    original = nn.Module.__call__
    calls = probe.calls

    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        # Runs for every module of every forward: the common case must cost one comparison.
        if calls.quiet and id(module) not in calls.root_ids:
            return original(module, *args, **kwargs)
        return calls.call(original, module, args, kwargs)

    replace(nn.Module, "__call__", call)


def _construction(probe: Probe, original: Callable[..., None]) -> Callable[..., None]:
    def init(module: nn.Module, *args: Any, **kwargs: Any) -> None:
        original(module, *args, **kwargs)
        if probe.alive():
            with probe.paused():
                probe.program.module_built(module, construction_location(module))

    return init


def _registration(probe: Probe) -> Callable[[nn.Module, str, Any], None]:
    def registered(module: nn.Module, name: str, parameter: Any) -> None:
        if probe.alive():
            probe.program.registrations.heard(module, parameter)

    return registered


def _mode_switch(probe: Probe, original: Callable[..., Any]) -> Callable[..., Any]:
    # train() calls itself for every child; only the outermost call is the user's.
    depth = 0

    def train(module: nn.Module, mode: bool = True) -> Any:
        nonlocal depth
        depth += 1
        try:
            return original(module, mode)
        finally:
            depth -= 1
            if depth == 0 and probe.alive():
                with probe.paused():
                    probe.mode_switched(module, mode, user_location())

    return train


def _loading(probe: Probe, original: Callable[..., Any]) -> Callable[..., Any]:
    def load_state_dict(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if probe.alive():
            with probe.paused():
                probe.program.weights_loaded(module)
        return original(module, *args, **kwargs)

    return load_state_dict


def _reading(probe: Probe, original: Callable[..., Any]) -> Callable[..., Any]:
    # state_dict() calls itself for every child; only the outermost call is the user's.
    depth = 0

    def state_dict(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        nonlocal depth
        depth += 1
        try:
            return original(module, *args, **kwargs)
        finally:
            depth -= 1
            if depth == 0 and probe.alive():
                probe.weights_read(module)

    return state_dict
