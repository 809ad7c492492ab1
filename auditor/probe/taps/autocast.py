"""Autocast: the low precision that training forwards are computed in, wherever in the program it is entered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from auditor.probe.locate import user_location
from auditor.probe.probe import Probe
from auditor.probe.taps.patching import wrap


def install(probe: Probe) -> None:
    wrap(torch.autocast, "__enter__", lambda original: _enter(probe, original))


def _enter(probe: Probe, original: Callable[..., Any]) -> Callable[..., Any]:
    seen = probe.program.autocasts

    def enter(context: Any) -> Any:
        result = original(context)
        if context.fast_dtype not in seen and context._enabled and torch.is_grad_enabled() and probe.alive():
            seen[context.fast_dtype] = user_location()
        return result

    return enter
