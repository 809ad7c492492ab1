"""Remedies of the loss function: its weights, the shape and the form of what it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from auditor.evidence import Remedy
from auditor.probe.locate import user_location
from auditor.probe.losscall import LossCall
from auditor.probe.remedies.treatment import Treatment, changing, is_at
from auditor.probe.replay import NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

OPERATORS = (
    "sub", "__sub__", "__rsub__", "rsub", "mul", "__mul__", "__rmul__", "div", "__truediv__", "__rtruediv__"
)  # fmt: skip
ELEMENTWISE = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits", *OPERATORS)
WEIGHED: dict[str, Callable[..., torch.Tensor]] = {
    "cross_entropy": functional.cross_entropy,
    "binary_cross_entropy_with_logits": functional.binary_cross_entropy_with_logits,
}


def class_weights(probe: Probe, remedy: Remedy) -> Treatment:
    weights = probe.class_weights()
    if weights is None:
        raise NotRun("the loss has no class labels, or only one class was seen")

    def change(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        logits = args[0] if args else kwargs.get("input")
        if name not in WEIGHED or len(args) > 2 or not isinstance(logits, torch.Tensor):
            return NotImplemented
        if name == "binary_cross_entropy_with_logits" and weights.numel() == 2 and kwargs.get("pos_weight") is None:
            return WEIGHED[name](*args, **{**kwargs, "pos_weight": (weights[1] / weights[0]).to(logits)})
        fits = name == "cross_entropy" and logits.dim() > 1 and logits.shape[1] == weights.numel()
        if not fits:
            return NotImplemented
        return WEIGHED[name](*args, **{**kwargs, "weight": weights.to(logits)})

    return changing(change, metric="balanced error rate")


def match_shapes(probe: Probe, remedy: Remedy) -> Treatment:
    def change(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name not in ELEMENTWISE or len(args) < 2 or not all(isinstance(each, torch.Tensor) for each in args[:2]):
            return NotImplemented
        prediction, target = args[:2]
        if prediction.shape == target.shape or prediction.numel() != target.numel():
            return NotImplemented
        if name in OPERATORS and not is_at(remedy.site, user_location()):
            return NotImplemented
        return function(prediction, target.reshape(prediction.shape), *args[2:], **kwargs)

    return changing(change)


def log_probabilities(probe: Probe, remedy: Remedy) -> Treatment:
    def change(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name == "poisson_nll_loss" and args and len(args) < 3:  # a rate is a rate, its logarithm is none
            return function(*args, **{**kwargs, "log_input": not kwargs.get("log_input", True)})
        if name not in ("nll_loss", "kl_div") or not args or args[0].dim() < 2:
            return NotImplemented
        given, axis = args[0], 1 if name == "nll_loss" else -1
        sums = given.detach().sum(axis)
        shares = bool((given.detach() >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all())
        logs = given.clamp(min=1e-12).log() if shares else functional.log_softmax(given, dim=axis)
        return function(logs, *args[1:], **kwargs)

    treatment = changing(change, metric="error rate")
    treatment.metric, treatment.otherwise = "distance from the targets", "error rate"
    treatment.shared["measure"] = _distance
    return treatment


def _distance(call: LossCall) -> torch.Tensor | None:
    """Mean absolute difference of counts and rates, of a Poisson loss, whose two forms are different losses. The model
    gives rates, where the loss took them for logarithms."""
    if call.name != "poisson_nll_loss" or call.input.shape != call.target.shape:
        return None
    given = call.input.detach().float()
    rates = given if call.options.get("log_input", True) else given.exp()
    return (rates - call.target.detach().float()).abs().mean()
