"""Modules that do something else in training mode than in evaluation mode."""

from __future__ import annotations

import re
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

_OWN_DROPOUT = re.compile(r"drop|stochastic.?depth|shake|zoneout", re.IGNORECASE)
_RATES = ("p", "drop_prob", "prob", "rate", "drop_rate", "drop", "dropout")


def role(module: nn.Module) -> Literal["dropout", "norm"] | None:
    """What the module does besides, in training mode; None for one that is the same in both."""
    if isinstance(module, _NormBase):
        return "norm" if module.running_mean is not None else None
    if isinstance(module, _DropoutNd):
        return "dropout" if module.p > 0 else None
    if isinstance(module, nn.RNNBase):
        return "dropout" if module.dropout > 0 and module.num_layers > 1 else None
    if isinstance(module, nn.MultiheadAttention):
        return "dropout" if module.dropout > 0 else None
    if isinstance(module, nn.RReLU):
        return "dropout" if module.lower != module.upper else None
    if _OWN_DROPOUT.search(type(module).__name__):  # DropPath, StochasticDepth and the like
        rates = [value for value in (getattr(module, name, None) for name in _RATES) if isinstance(value, int | float)]
        return "dropout" if any(rate > 0 for rate in rates) else None
    return None


def modal_modules(root: nn.Module) -> list[nn.Module]:
    return [module for module in root.modules() if role(module) is not None]


def frozen(module: nn.Module) -> bool:
    """True for a module with parameters of its own of which none is trained."""
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)
