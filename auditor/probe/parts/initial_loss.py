"""The loss of the untouched model, per sample, at the first classification loss call."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as functional

from auditor.evidence import InitialLoss
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.graph import producer
from auditor.probe.losscall import LossCall

MAX_CLASSES = 10**6
LABEL_STEPS = 10  # steps whose labels give the entropy of a constant prediction


class InitialLossCollector(Collector):
    name = "initial_loss"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._first: dict[str, Any] | None = None
        self._key: tuple[str, Any] | None = None
        self._counts: torch.Tensor | None = None

    def loss_called(self, call: LossCall) -> None:
        if not (call.class_labels or (call.binary_labels and call.name.endswith("logits"))):
            return
        if self.step == 0 and self._first is None and call.classes <= MAX_CLASSES:
            self._first = _measure(call)
            self._key = (call.name, call.location)
            self._first["pretrained"] = self.probe.program.was_loaded()
            self._first["producer"] = producer(call.input, self.probe)
        if self._key == (call.name, call.location) and self.step < LABEL_STEPS:
            counts = label_counts(call)
            self._counts = counts if self._counts is None else self._counts + counts

    def part(self) -> InitialLoss:
        if self._first is None or self._counts is None:
            raise Unavailable("no classification loss on logits was called in the first step")
        seen = self._first
        losses = seen["losses"].double().cpu()
        losses = (
            losses[torch.isfinite(losses)] if not bool(torch.isfinite(losses).all()) and losses.numel() > 1 else losses
        )
        if not losses.numel():
            raise Unavailable("every label of the first batch is ignored", "inconclusive")
        counts = self._counts.double().cpu()
        shares = counts / counts.sum().clamp(min=1)
        marginal = float(-(shares[shares > 0] * shares[shares > 0].log()).sum())
        made_by = seen["producer"]
        spread = float(losses.std()) / math.sqrt(losses.numel()) if losses.numel() > 1 else math.inf
        return InitialLoss(
            function=seen["call"],
            location=seen["location"],
            value=float(losses.mean()),
            standard_error=spread,
            samples=losses.numel(),
            classes=seen["classes"],
            uniform=math.log(seen["classes"]),
            marginal=marginal,
            pretrained=seen["pretrained"],
            weighted=seen["weighted"],
            label_smoothing=seen["smoothing"],
            max_logit=float(seen["max_logit"]),
            where=made_by.layer,
            layer_location=made_by.location,
        )


def _measure(call: LossCall) -> dict[str, Any]:
    """Per-sample losses, recomputed without reduction, weights or smoothing; nothing is drawn or changed."""
    with torch.no_grad():
        if call.class_labels:
            logits, labels = call.flat()
            counted = labels != call.ignore_index
            safe = labels.clamp(min=0)
            function = functional.nll_loss if call.name == "nll_loss" else functional.cross_entropy
            losses = function(logits.float(), torch.where(counted, safe, torch.zeros_like(safe)), reduction="none")
            losses = losses[counted] if losses.device.type == "cpu" else torch.where(counted, losses, torch.inf)
            classes = call.classes
        else:
            losses = functional.binary_cross_entropy_with_logits(
                call.input.detach().float(), call.target.detach().float(), reduction="none"
            ).reshape(-1)
            classes = 2
        return {
            "call": call.name,
            "location": call.location,
            "losses": losses,
            "classes": classes,
            "weighted": any(call.options.get(name) is not None for name in ("weight", "pos_weight")),
            "smoothing": float(call.options.get("label_smoothing", 0.0) or 0.0),
            "max_logit": call.input.detach().float().abs().max(),
        }


def label_counts(call: LossCall) -> torch.Tensor:
    """(classes,) counts without synchronising; ignored and out-of-range labels are left out."""
    if call.class_labels:
        _, labels = call.flat()
        classes = call.classes
        valid = (labels >= 0) & (labels < classes) & (labels != call.ignore_index)
    else:
        labels = (call.target.detach() > 0.5).long().reshape(-1)
        classes = 2
        valid = torch.ones_like(labels, dtype=torch.bool)
    counts = torch.zeros(classes + 1, dtype=torch.long, device=labels.device)
    counts.scatter_add_(
        0, torch.where(valid, labels, torch.full_like(labels, classes)).long(), torch.ones_like(labels).long()
    )
    return counts[:classes]
