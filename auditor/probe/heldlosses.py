"""The latest held-out loss that the script worked out in evaluation mode, with what it takes to work it out again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from auditor.probe.batches import clone, tensors
from auditor.probe.losscall import LossCall

LOSSES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "cross_entropy", "binary_cross_entropy_with_logits")
OPTIONS = ("beta", "delta", "label_smoothing", "weight", "pos_weight", "ignore_index")
LARGEST = 2**20  # values of the inputs and the target
MOST_KEPT = 8  # copies that are made; later evaluations are not looked at
FEWEST_SAMPLES = 64


@dataclass
class HeldLoss:
    module: int  # id
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    target: torch.Tensor
    shape: tuple[int, ...]  # in which the loss was given the output
    output: int  # which of the tensors that the model returns
    name: str
    options: dict[str, Any]

    def of_samples(self, outputs: list[torch.Tensor]) -> torch.Tensor:
        """(samples,) the loss of each."""
        given = outputs[self.output].reshape(self.shape)
        each: torch.Tensor = getattr(nn.functional, self.name)(given, self.target, reduction="none", **self.options)
        return each.reshape(len(each), -1).double().mean(1)


class HeldLosses:
    def __init__(self) -> None:
        self.latest: HeldLoss | None = None
        self._call: tuple[nn.Module, Any, Any] | None = None
        self._outputs: list[torch.Tensor] = []
        self._kept = 0

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._outputs = []
        self._call = None if module.training or self._kept >= MOST_KEPT else (module, args, kwargs)

    def forwarded(self, module: nn.Module, result: Any) -> None:
        if self._call is not None and self._call[0] is module:
            self._outputs = [t for t in tensors(result) if t.is_floating_point() and t.layout == torch.strided]

    def loss(self, call: LossCall) -> None:
        outputs, call_of, self._outputs = self._outputs, self._call, []
        if call_of is None or call.in_model or call.name not in LOSSES:
            return
        module, args, kwargs = call_of
        self._call = None
        given = list(tensors((args, kwargs)))
        place = next((i for i, t in enumerate(outputs) if _is_view(call.input, t)), None)
        size = sum(t.numel() for t in given) + call.target.numel()
        if place is None or size > LARGEST or len(call.input) < FEWEST_SAMPLES or _is_among(call.target, given):
            return
        self._kept += 1
        self.latest = HeldLoss(
            module=id(module),
            args=clone(args),
            kwargs=clone(kwargs),
            target=call.target.detach().clone(),
            shape=tuple(call.input.shape),
            output=place,
            name=call.name,
            options={name: call.options[name] for name in OPTIONS if call.options.get(name) is not None},
        )


def _is_view(tensor: torch.Tensor, output: torch.Tensor) -> bool:
    """All of it, in its order."""
    whole = tensor.numel() == output.numel() and tensor.is_contiguous() and output.is_contiguous()
    return whole and tensor.dim() > 0 and tensor.data_ptr() == output.data_ptr()


def _is_among(target: torch.Tensor, given: list[torch.Tensor]) -> bool:
    """The model is to give back what it is given, perhaps on another scale or without its noise."""
    alike = [t for t in given if t.numel() == target.numel()]
    return any(t.numel() > len(t) or torch.equal(t.reshape(-1).to(target), target.reshape(-1)) for t in alike)
