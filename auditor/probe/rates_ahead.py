"""The rates that a scheduler will set in the steps to come, asked of a copy of it."""

from __future__ import annotations

import copy
import dis
import math
import types
import warnings
from typing import Any

from torch.optim import lr_scheduler

MOST_CALLS = 200_000
KEPT = 200  # rates that are told, evenly apart
_WRITES = frozenset({"STORE_GLOBAL", "STORE_DEREF", "DELETE_GLOBAL", "DELETE_DEREF", "STORE_ATTR", "STORE_SUBSCR"})


class _Bystander:
    """Stands in for the optimizer: its groups, without weights."""

    def __init__(self, optimizer: Any) -> None:
        self.param_groups = [
            {name: copy.copy(value) for name, value in group.items() if name != "params"}
            for group in optimizer.param_groups
        ]
        self.defaults = dict(optimizer.defaults)
        self._opt_called = True

    def step(self) -> None: ...


def rates_ahead(scheduler: Any, calls: int) -> tuple[float, ...]:
    """The first group's rate after each of the next `calls` calls, at most KEPT of them evenly apart, the last one
    included. Empty where a copy cannot be trusted to go the same way: schedulers that wait for a metric or are not
    torch's own, factors that come from anything but a plain function, rates that are tensors."""
    if not 0 < calls <= MOST_CALLS or not _predictable(scheduler):
        return ()
    wanted = {math.ceil(calls * (place + 1) / min(KEPT, calls)) for place in range(min(KEPT, calls))}
    rates: list[float] = []
    try:
        twin = _copy(scheduler, _Bystander(scheduler.optimizer))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for call in range(1, calls + 1):
                twin.step()
                if call in wanted:
                    rates.append(float(twin.optimizer.param_groups[0]["lr"]))
    except Exception:  # a one-cycle schedule beyond its end, a factor that refuses: the script will see to it itself
        return ()
    return tuple(rates)


def _predictable(scheduler: Any) -> bool:
    if not type(scheduler).__module__.startswith("torch.optim") or not hasattr(scheduler, "optimizer"):
        return False
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        return False
    if not all(isinstance(group["lr"], int | float) for group in scheduler.optimizer.param_groups):
        return False
    return all(map(_plain, getattr(scheduler, "lr_lambdas", ()))) and all(
        map(_predictable, getattr(scheduler, "_schedulers", ()))
    )


def _plain(function: Any) -> bool:
    """A function of the step, or a method, that keeps no count of its own."""
    function = function.__func__ if isinstance(function, types.MethodType) else function
    if not isinstance(function, types.FunctionType):
        return False
    return not any(instruction.opname in _WRITES for instruction in dis.get_instructions(function))


def _copy(scheduler: Any, optimizer: _Bystander) -> Any:
    twin = copy.copy(scheduler)
    twin.optimizer = optimizer
    for name in ("_schedulers", "_last_lr", "base_lrs", "_milestones"):
        if isinstance(getattr(twin, name, None), list):
            setattr(twin, name, list(getattr(twin, name)))
    if hasattr(twin, "_schedulers"):
        twin._schedulers = [_copy(part, optimizer) for part in scheduler._schedulers]
    return twin
