"""What the probe passes on to the collectors as it is: calls that change nothing in how the loop is followed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from auditor.evidence import Location
from auditor.probe.collect import Collectors
from auditor.probe.dropouts import DropoutHeard
from auditor.probe.program import LoaderSeen, ProgramSeen
from auditor.probe.standing import Standing


class Hearing(Standing):
    """A part of the probe."""

    program: ProgramSeen
    collectors: Collectors

    def paused(self) -> AbstractContextManager[None]:
        raise NotImplementedError

    def batch_fetched(self, seen: LoaderSeen, batch: Any) -> None:
        """A loader has handed out a batch, in observation; what it is for is not known yet."""
        if self.observing:
            with self.paused():
                self.collectors.batch_fetched(seen, batch)

    def mode_switched(self, module: nn.Module, training: bool, location: Location | None) -> None:
        """train() or eval() was called by the user."""
        self.program.mode_switched(module, training, location)
        if self.observing:
            self.collectors.mode_switched(module, training, location)

    def weights_read(self, module: nn.Module) -> None:
        """The user took a model's state_dict, to keep it."""
        if self.observing:
            with self.paused():
                self.collectors.weights_read(module)

    def compared(self, function: str, left: torch.Tensor, right: torch.Tensor, result: Any) -> None:
        """Two tensors were compared outside of all models."""
        with self.paused():
            self.collectors.compared(function, left, right, result)

    def subtracted(self, left: torch.Tensor, right: torch.Tensor, result: torch.Tensor) -> None:
        """Two tensors of different ranks were subtracted outside of all models."""
        with self.paused():
            self.collectors.subtracted(left, right, result)

    def combined(self, function: str, left: torch.Tensor, right: torch.Tensor, result: torch.Tensor) -> None:
        """Two tensors of different ranks were multiplied, or joined by & or |, outside of all models."""
        with self.paused():
            self.collectors.combined(function, left, right, result)

    def took_largest(self, function: str, given: torch.Tensor, result: Any) -> None:
        """The largest of each row of a single column was taken outside of all models."""
        with self.paused():
            self.collectors.took_largest(function, given, result)

    def dropout_called(self, heard: DropoutHeard) -> None:
        with self.paused():
            self.collectors.dropout_called(heard)
