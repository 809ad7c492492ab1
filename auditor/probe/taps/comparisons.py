"""Comparisons of tensors, and the largest of some values: what metrics are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from auditor.probe.probe import Probe
from auditor.probe.taps.patching import wrap


def install(probe: Probe) -> None:
    if probe.collectors.hears("compared"):
        for owner, name in ((torch.Tensor, "__eq__"), (torch.Tensor, "eq"), (torch, "eq")):
            wrap(owner, name, lambda original: _equal(probe, original))
    if probe.collectors.hears("took_largest"):
        for owner, name in ((torch.Tensor, "argmax"), (torch, "argmax"), (torch.Tensor, "max"), (torch, "max")):
            wrap(owner, name, lambda original, name=name: _largest(probe, name, original))  # type: ignore[misc]


def _equal(probe: Probe, original: Callable[..., Any]) -> Callable[..., Any]:
    def eq(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        # Runs for every comparison of any library: nothing more than this in the common case.
        if not probe.hears_metrics or len(args) != 2 or not isinstance(args[1], torch.Tensor):
            return result
        if isinstance(args[0], torch.Tensor) and not probe.calls.inside_root and probe.alive():
            probe.compared("==", args[0], args[1], result)
        return result

    return eq


def _largest(probe: Probe, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def largest(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if probe.hears_metrics and not probe.calls.inside_root and (len(args) == 2 or kwargs):
            given = args[0] if args else kwargs.get("input")
            if isinstance(given, torch.Tensor) and given.dim() == 2 and given.shape[1] == 1 and probe.alive():
                probe.took_largest(name, given, result)
        return result

    return largest
