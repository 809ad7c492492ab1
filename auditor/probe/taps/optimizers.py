"""Optimizers and schedulers: construction, steps, cleared gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from auditor.probe.locate import construction_location, user_location
from auditor.probe.probe import Probe
from auditor.probe.taps.patching import wrap


def install(probe: Probe) -> None:
    wrap(Optimizer, "__init__", lambda original: _built(probe, original))
    wrap(Optimizer, "zero_grad", lambda original: _zero_grad(probe, original))
    wrap(torch.nn.Module, "zero_grad", lambda original: _zero_grad(probe, original))
    register_optimizer_step_pre_hook(lambda optimizer, args, kwargs: _before(probe, optimizer, args, kwargs))
    register_optimizer_step_post_hook(lambda optimizer, args, kwargs: _after(probe, optimizer))
    for kind in (LRScheduler, ReduceLROnPlateau):
        if "__init__" in vars(kind):
            wrap(kind, "__init__", lambda original: _scheduler_built(probe, original))
    nesting = [0]  # schedulers step others, and themselves while they are built: only the outer call is the user's
    for owner in {value for value in vars(lr_scheduler).values() if isinstance(value, type)}:
        if issubclass(owner, LRScheduler) and "step" in vars(owner):
            wrap(owner, "step", lambda original: _scheduler_step(probe, original, nesting))
        if issubclass(owner, LRScheduler) and "_initial_step" in vars(owner):
            wrap(owner, "_initial_step", lambda original: _nested(original, nesting))


def _built(probe: Probe, original: Callable[..., None]) -> Callable[..., None]:
    def init(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        original(optimizer, *args, **kwargs)
        if probe.alive():
            with probe.paused():
                probe.program.optimizer_built(optimizer, construction_location(optimizer))

    return init


def _zero_grad(probe: Probe, original: Callable[..., Any]) -> Callable[..., Any]:
    def zero_grad(owner: Any, *args: Any, **kwargs: Any) -> Any:
        if probe.alive():
            probe.loop.zero_grad_calls += 1
            probe.loop_call("zero_grad", owner)
            if probe.director.player.holds_zero_grad:
                return None
        return original(owner, *args, **kwargs)

    return zero_grad


def _before(probe: Probe, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if probe.alive():
        # The optimizer itself may or may not be among the arguments; a closure comes by position or by keyword.
        rest = args[1:] if args and args[0] is optimizer else args
        closure = kwargs.get("closure", rest[0] if rest else None)
        probe.update_begins(optimizer, closure is not None, user_location())


def _after(probe: Probe, optimizer: Optimizer) -> None:
    if probe.alive():
        probe.update_ended(optimizer)


def _scheduler_built(probe: Probe, original: Callable[..., None]) -> Callable[..., None]:
    def init(scheduler: Any, *args: Any, **kwargs: Any) -> None:
        original(scheduler, *args, **kwargs)
        if probe.alive():
            with probe.paused():
                probe.program.scheduler_built(scheduler, construction_location(scheduler))

    return init


def _scheduler_step(probe: Probe, original: Callable[..., Any], nesting: list[int]) -> Callable[..., Any]:
    inner = _nested(original, nesting)

    def step(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        if not nesting[0] and probe.alive() and probe.director.player.request is not None:
            return None  # a replay has the recorded rates; a schedule of fixed length would end amid it
        result = inner(scheduler, *args, **kwargs)
        if not nesting[0] and probe.alive():
            probe.loop_call("scheduler_step", scheduler)
        return result

    return step


def _nested(original: Callable[..., Any], nesting: list[int]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        nesting[0] += 1
        try:
            return original(*args, **kwargs)
        finally:
            nesting[0] -= 1

    return call
