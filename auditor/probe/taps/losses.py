"""Loss functions of torch.nn.functional; the loss modules call them too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as functional

from auditor.probe.dropouts import ATTENTION, heard
from auditor.probe.locate import user_location
from auditor.probe.losscall import LossCall
from auditor.probe.probe import Probe
from auditor.probe.taps.patching import wrap

LOSSES = (
    "cross_entropy",
    "nll_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "kl_div",
    "poisson_nll_loss",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "soft_margin_loss",
    "ctc_loss",
)


def install(probe: Probe) -> None:
    nesting = [0]  # cross_entropy calls nll_loss on some paths: only the outer one is the user's
    for name in LOSSES:
        wrap(functional, name, lambda original, name=name: _loss(probe, name, original, nesting))  # type: ignore[misc]
    for name in ("dropout", "alpha_dropout", "feature_alpha_dropout", "dropout1d", "dropout2d", "dropout3d"):
        wrap(functional, name, lambda original, name=name: _dropout(probe, name, original))  # type: ignore[misc]
    wrap(functional, "scaled_dot_product_attention", lambda original: _attention(probe, original))


def _loss(probe: Probe, name: str, original: Callable[..., Any], nesting: list[int]) -> Callable[..., Any]:
    def loss(*args: Any, **kwargs: Any) -> Any:
        if nesting[0] or not probe.alive():
            return original(*args, **kwargs)
        args, kwargs = probe.before_loss(name, args, kwargs)
        nesting[0] += 1
        try:
            result = original(*args, **kwargs)
        finally:
            nesting[0] -= 1
        call = LossCall.bind(name, original, args, kwargs, result)
        if call is not None:
            call.location = user_location()
            probe.loss_called(call)
        return result

    return loss


def _dropout(probe: Probe, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
        if probe.dropout_off and probe.alive():
            p = 0.0
        if probe.hears_dropout and probe.alive():
            probe.dropout_called(heard(name, p, training))
        return original(input, p, training, inplace)

    return dropout


def _attention(probe: Probe, original: Callable[..., Any]) -> Callable[..., Any]:
    def attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        if probe.dropout_off and probe.alive():
            if len(args) > 1:  # (attn_mask, dropout_p, ...)
                args = (args[0], 0.0, *args[2:])
            kwargs = {**kwargs, "dropout_p": 0.0} if "dropout_p" in kwargs else kwargs
        if probe.hears_dropout and probe.alive():
            rate = kwargs.get("dropout_p", args[1] if len(args) > 1 else 0.0)
            probe.dropout_called(heard(ATTENTION, rate, rate > 0))
        return original(query, key, value, *args, **kwargs)

    return attention
