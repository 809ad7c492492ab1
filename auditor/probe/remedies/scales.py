"""Remedies of the loss scale of half precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditor.evidence import Remedy
from auditor.probe.experiments.loss_scale import scale_setter, scalers_used
from auditor.probe.remedies.treatment import Treatment, amount
from auditor.probe.replay import NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

MOST_SCALERS = 2  # that a replay can set; more are built anew all the time


def scale_loss(probe: Probe, remedy: Remedy) -> Treatment:
    """Each backward runs on so many times the loss, and its gradients are divided again."""
    return Treatment({"loss_scale": amount(remedy)})


def one_scale(probe: Probe, remedy: Remedy) -> Treatment:
    """At a scale of 1, gradients that were never scaled and such that are never unscaled are what they should be."""
    scalers = scalers_used(probe)
    if not scalers:
        raise NotRun("no GradScaler has scaled a loss, so that there is none whose scale could be set")
    if len(scalers) > MOST_SCALERS:
        raise NotRun("the GradScaler is built anew all the time: its scale cannot be set from outside")
    return Treatment({"prepare": scale_setter(scalers, 1.0)})
