"""One call of a loss function, with its arguments under their own names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch

from auditor.evidence import Location


@cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


@dataclass
class LossCall:
    """`input` and `target` as the function received them; `result` as it returned it. Tensors are live: do not keep."""

    name: str
    input: torch.Tensor
    target: torch.Tensor
    options: dict[str, Any]
    result: torch.Tensor
    location: Location | None = None
    in_model: bool = field(default=False)

    @staticmethod
    def bind(
        name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> LossCall | None:
        """None when the arguments are not plain tensors."""
        try:
            bound = _signature(function).bind(*args, **kwargs)
        except TypeError:
            return None
        bound.apply_defaults()
        values = dict(bound.arguments)
        first = values.pop("input", values.pop("log_probs", None))
        target = values.pop("target", values.pop("targets", None))
        tensors = (first, target, result)
        if not all(isinstance(value, torch.Tensor) for value in tensors):
            return None
        return LossCall(name, first, target, values, result)

    @property
    def reduction(self) -> str:
        return str(self.options.get("reduction", "mean"))

    @property
    def class_labels(self) -> bool:
        """True for a classification call with integer labels, classes in dimension 1."""
        return (
            self.name in ("cross_entropy", "nll_loss")
            and not self.target.is_floating_point()
            and self.input.dim() >= 1
            and self.target.dim() == max(0, self.input.dim() - 1)
        )

    @property
    def binary_labels(self) -> bool:
        return self.name in ("binary_cross_entropy", "binary_cross_entropy_with_logits")

    @property
    def classes(self) -> int:
        return int(self.input.shape[1 if self.input.dim() > 1 else 0])

    def flat(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, classes) inputs and (rows,) integer labels, detached; ignored labels included."""
        logits, labels = self.input.detach(), self.target.detach()
        if logits.dim() == 1:
            return logits.unsqueeze(0), labels.reshape(1)
        if logits.dim() > 2:
            logits = logits.movedim(1, -1)
        return logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)

    @property
    def ignore_index(self) -> int:
        return int(self.options.get("ignore_index", -100))
