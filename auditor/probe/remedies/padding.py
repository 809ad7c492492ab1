"""Remedies of a loss that judges outputs at padding, where no label stands for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from auditor.evidence import Remedy
from auditor.probe.paddings import paddings
from auditor.probe.remedies.treatment import Treatment
from auditor.probe.replay import NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

OF_PAIRS = (
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits"
)  # fmt: skip
DIFFERENCES = ("sub", "__sub__", "__rsub__", "rsub", "subtract")


class _Real:
    """Which positions of the batch at hand are no padding, and what the loss of these alone is."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._batch: Any = None
        self._masks: list[torch.Tensor] = []
        self._losses: list[torch.Tensor] = []
        self.met: list[str] = []

    def fetched(self, batch: Any, step: int) -> Any:
        self._batch = batch
        return batch

    def called(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        known = paddings((self._batch, args, kwargs), (), {})
        self._masks = [~each.run for each in [each for each in known if each.sure] or known]
        return args, kwargs

    def figure(self) -> torch.Tensor | None:
        """Of the step that ended."""
        found = torch.stack(self._losses).sum() if self._losses else None
        self._losses = []
        return found

    def selected(self, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The call's result for real positions alone; NotImplemented for calls that judge no outputs."""
        if name not in (*OF_PAIRS, *DIFFERENCES) or len(args) < 2 or self._probe.calls.inside_root:
            return NotImplemented
        first, second = args[:2]
        if not isinstance(first, torch.Tensor) or not isinstance(second, torch.Tensor) or first.shape != second.shape:
            return NotImplemented
        mask = next((each for each in self._masks if first.shape[:2] == each.shape), None)
        if mask is None or first.requires_grad == second.requires_grad or kwargs.get("weight") is not None:
            return NotImplemented
        mask = mask.to(first.device)
        result = function(first[mask], second[mask], *args[2:], **kwargs)
        shown = result.detach().float()
        self._losses.append(shown.square().mean() if name in DIFFERENCES else shown.mean())
        return result

    def heard(self, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.selected(name, function, args, kwargs)
        return NotImplemented

    def changed(self, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = self.selected(name, function, args, kwargs)
        if result is not NotImplemented:
            self.met.append(name)
        return result


def ignore_padding(probe: Probe, remedy: Remedy) -> Treatment:
    """The mean goes over real positions, in torch's loss functions and in differences that the script takes itself.

    Both arms are measured by the loss of the real positions: for differences by hand, their mean square.
    """
    if not probe.feed.has_loader:
        raise NotRun("the loop uses no DataLoader, whose batches tell what is padding")
    real = _Real(probe)
    listening = {"batch_change": real.fetched, "call_change": real.called, "read": real.figure}
    return Treatment(
        {"calls": real.changed},
        met=[real.met],
        metric="loss of the counted labels",
        shared={**listening, "calls": real.heard},
    )
