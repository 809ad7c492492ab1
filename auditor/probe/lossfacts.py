"""What is known of the loss as a whole: which function it is, whether that function is all of it, how low it can go."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from auditor.evidence import Location
from auditor.probe.batches import tensors
from auditor.probe.experiments.floors import floor_of_call
from auditor.probe.losscall import LossCall
from auditor.probe.serieslabels import shifted_series
from auditor.probe.steps import StepSeen, fetch

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

CHECKED_STEPS = 8
TOLERANCE = 1e-4  # relative, of the ratio between what backward() got and what the loss functions returned


class LossFacts:
    """Compares, over the first steps, what backward() was called on with what the seen loss functions returned."""

    def __init__(self) -> None:
        self.name = ""
        self.location: Location | None = None
        self.labels: torch.Tensor | None = None  # of the first call of the first step
        self._classes = 0
        self._first: LossCall | None = None
        self._results: list[torch.Tensor] = []
        self._calls = 0
        self._ratios: list[torch.Tensor] = []
        self._uncovered = False

    def note(self, call: LossCall, step: int) -> None:
        if step >= CHECKED_STEPS:
            return
        if not self.name:
            self.name, self.location = call.name, call.location
            self.labels = call.target.detach().clone() if call.class_labels else None
            self._classes = call.classes if call.class_labels else 0
            # The floor is worked out later: reading it here would wait for the device in the middle of a step.
            self._first = replace(
                call,
                input=torch.empty_like(call.input, device="meta"),  # its shape is enough, and it may be large
                target=call.target.detach().clone(),
                result=torch.empty_like(call.result, device="meta"),
            )
        self._results.append(call.result.detach().float().sum())

    def step_ended(self, step: StepSeen, index: int) -> None:
        if index >= CHECKED_STEPS:
            return
        whole = step.loss()
        if self._results and whole is not None:
            seen = torch.stack([result.to(whole.device) for result in self._results]).sum()
            self._ratios.append(whole / seen)
        else:
            self._uncovered = True
        self._calls = max(self._calls, len(self._results))
        self._results = []

    def in_model(self) -> bool:
        """True when the model itself calls the loss function."""
        return self._first is not None and self._first.in_model

    def covers_loss(self) -> bool:
        """True when backward() always got a fixed multiple of what the seen loss functions returned. Fetches."""
        if self._uncovered or not self._ratios:
            return False
        # Where the loss itself is not finite, its ratio tells nothing.
        ratios = [ratio for ratio in fetch(list(self._ratios)) if math.isfinite(ratio)]
        if not ratios:
            return False
        return max(ratios) - min(ratios) <= TOLERANCE * max(abs(ratio) for ratio in ratios)

    def contrasts_the_batch(self) -> bool:
        """True for in-batch contrastive losses: as many classes as samples, the label being the sample's own index."""
        labels = self.labels
        if labels is None or labels.dim() != 1 or labels.numel() < 2 or self._classes % labels.numel():
            return False
        return len(set(labels.tolist())) == labels.numel()

    def scale(self) -> float:
        """What backward() gets, over what the loss functions return."""
        return fetch(self._ratios[:1])[0] if self._ratios else 1.0

    def calls_in_loss(self) -> float:
        """The loss of a step, in losses of one call; 1 where the first was not finite."""
        found = self.scale() * self._calls
        return found if math.isfinite(found) else 1.0

    def floor(self, probe: Probe) -> tuple[float | None, str]:
        """(lowest loss with exact predictions, what lifts it); None where the loss has other terms or is not known."""
        if self._first is None:
            return None, "no loss function of torch was seen"
        floor, reason = floor_of_call(self._first)
        if floor is None:
            return None, reason
        if shifted_series(list(tensors(probe.feed.first_batch())), self._first, 0) is not None:
            return None, "each position is asked for the value that follows, and what is new in it is noise"
        if not self.covers_loss():
            return None, "the loss has terms besides the loss function that was seen"
        return floor * self.calls_in_loss(), reason
