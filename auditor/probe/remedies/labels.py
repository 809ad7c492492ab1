"""Remedies of the labels that a loss function of torch is given: some left out, or moved by a token."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from auditor.evidence import Remedy
from auditor.probe.batches import tensors
from auditor.probe.losscall import LossCall
from auditor.probe.remedies.treatment import Treatment, changing
from auditor.probe.replay import NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "cross_entropy": functional.cross_entropy,
    "nll_loss": functional.nll_loss,
}
BINARY: dict[str, Callable[..., torch.Tensor]] = {
    "binary_cross_entropy": functional.binary_cross_entropy,
    "binary_cross_entropy_with_logits": functional.binary_cross_entropy_with_logits,
}
Shifted = tuple[torch.Tensor, torch.Tensor]  # outputs (rows, classes) and labels (rows,)


def ignore_labels(probe: Probe, remedy: Remedy) -> Treatment:
    if remedy.amount is None:
        raise NotRun("it is not known which label stands for padding")
    ignored = int(remedy.amount)

    def change(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name not in LOSSES or len(args) < 2 or args[1].is_floating_point():
            return NotImplemented
        options = {key: value for key, value in kwargs.items() if key != "ignore_index"}
        return LOSSES[name](args[0], args[1], ignore_index=ignored, **options)

    def measure(call: LossCall) -> torch.Tensor | None:
        if call.in_model or not call.class_labels:
            return None
        outputs, labels = call.flat()
        return LOSSES[call.name](
            outputs.float(), labels.masked_fill(labels == call.ignore_index, ignored), ignore_index=ignored
        )

    treatment = changing(change, metric="loss of the counted labels")
    treatment.shared["measure"] = measure
    return treatment


def shift_labels(probe: Probe, remedy: Remedy) -> Treatment:
    """From `amount` tokens ahead to the next one. What the loss is of then is measured in both arms."""
    if remedy.amount is None:
        raise NotRun("it is not known how far the labels are shifted")
    ahead = int(remedy.amount)
    tokens: list[torch.Tensor] = []

    def heard(args: Any, kwargs: Any) -> tuple[Any, Any]:
        tokens[:] = [t for t in tensors((args, kwargs)) if t.dim() == 2 and not t.is_floating_point()][:1]
        return args, kwargs

    def shifted(outputs: torch.Tensor, labels: torch.Tensor) -> Shifted | None:
        return _shifted(outputs, labels, tokens[0], ahead) if tokens else None

    def change(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name not in LOSSES or len(args) < 2:
            return NotImplemented
        found = shifted(args[0], args[1])
        return LOSSES[name](*found, **kwargs) if found is not None else NotImplemented

    def measure(call: LossCall) -> torch.Tensor | None:
        if not call.class_labels:
            return None
        found = shifted(call.input.detach().float(), call.target.detach())
        return LOSSES[call.name](*found, ignore_index=call.ignore_index) if found is not None else None

    treatment = changing(change, metric="loss of the next token")
    treatment.shared |= {"measure": measure, "call_change": heard}
    return treatment


def _shifted(outputs: torch.Tensor, labels: torch.Tensor, tokens: torch.Tensor, ahead: int) -> Shifted | None:
    """None where the labels are not the tokens that stand `ahead` of their positions."""
    rows, classes = tokens.shape[0], outputs.shape[1] if outputs.dim() > 1 else 0
    if labels.numel() % rows or labels.numel() // rows < 3 or not classes:
        return None
    if outputs.dim() == 3:
        outputs = outputs.transpose(1, 2)
    labels = labels.reshape(rows, -1)
    if outputs.numel() != labels.numel() * classes:
        return None
    outputs = outputs.reshape(rows, -1, classes)
    length = min(labels.shape[1], tokens.shape[1] - ahead)
    known = labels[:, :length] >= 0
    equal = (labels[:, :length] == tokens[:, ahead : ahead + length]) & known
    if length < 2 or not bool(equal.sum() >= 0.8 * known.sum()):
        return None
    by = ahead - 1
    if by > 0:
        outputs, labels = outputs[:, by:], labels[:, :-by]
    else:
        outputs, labels = outputs[:, :by], labels[:, -by:]
    return outputs.reshape(-1, classes), labels.reshape(-1)


def repair_labels(probe: Probe, remedy: Remedy) -> Treatment:
    """Of a binary cross entropy: -1 and 1 become 0 and 1, 0 and 255 likewise; a negative label beside 0 and 1 stands
    for none. What else lies outside is not understood."""

    def change(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name not in BINARY or len(args) != 2 or kwargs.get("weight") is not None:
            return NotImplemented
        outputs, labels, counted = _repaired(args[0], args[1])
        options = {**kwargs, "reduction": "none"}
        each = BINARY[name](outputs, labels, **options) * counted
        if kwargs.get("reduction", "mean") == "none":
            return each
        total = each.sum()
        return total if kwargs.get("reduction") == "sum" else total / counted.sum().clamp(min=1)

    def measure(call: LossCall) -> torch.Tensor | None:
        if call.name not in BINARY or call.input.shape != call.target.shape:
            return None
        outputs, labels, counted = _repaired(call.input.detach(), call.target.detach())
        wrong = (outputs > (0.0 if call.name.endswith("logits") else 0.5)) != (labels > 0.5)
        return (wrong * counted).sum() / counted.sum().clamp(min=1)

    treatment = changing(change, metric="error rate of the repaired labels")
    treatment.shared["measure"] = measure
    return treatment


def _repaired(outputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(outputs, labels from 0 to 1, 1.0 where a label counts)."""
    counted = torch.ones_like(labels)
    if bool((labels > 1).any()):
        labels = labels / labels.max()
    elif bool((labels < 0).any()):
        if bool((labels == 0).any()):
            counted = (labels >= 0).to(labels)
            labels = labels.clamp(min=0)
        else:
            labels = (labels > 0).to(labels)
    return outputs, labels, counted
