"""Taps: patches of torch's entry points, in the child only. Each tells the probe what happened, and changes nothing."""

from __future__ import annotations

from auditor.probe.probe import Probe
from auditor.probe.taps import (
    autocast,
    autograd,
    comparisons,
    data,
    functions,
    losses,
    modules,
    optimizers,
    seeds,
    sequences,
)


def install(probe: Probe) -> None:
    """Put every tap in place. Must run before the user's script is imported, so that its `from ... import` see them."""
    for tap in (modules, losses, autocast, autograd, optimizers, data, seeds, functions, comparisons, sequences):
        tap.install(probe)
