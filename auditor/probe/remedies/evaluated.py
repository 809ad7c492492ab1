"""The loss in evaluation mode, for remedies of what makes training and evaluation two different models."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from auditor.probe.callchange import CallChange, ChangedCalls
from auditor.probe.examination import Examination
from auditor.probe.losscall import LossCall

ALIKE = 1e-3  # relative: what the loss receives is what the model returns


class EvaluatedLoss:
    """At each step: the loss function of the loop, of what the model answers to the same batch in evaluation mode.

    Known only where the loss function receives what the model returns, which is seen where no random numbers are drawn.
    """

    def __init__(self) -> None:
        self._answers: list[torch.Tensor] = []
        self._trained: list[torch.Tensor] = []

    def look(self, examination: Examination, step: int) -> None:
        self._trained = examination.outputs(training=True)
        self._answers = examination.outputs(training=False)

    def look_changed(self, change: CallChange) -> Callable[[Examination, int], None]:
        """The same where calls of torch's functions are changed."""

        def look(examination: Examination, step: int) -> None:
            with ChangedCalls(change, None):
                self.look(examination, step)

        return look

    def measure(self, call: LossCall) -> torch.Tensor | None:
        function = getattr(functional, call.name, None)
        if call.in_model or function is None:
            return None
        given = call.input.detach()
        for trained, answer in zip(self._trained, self._answers, strict=False):
            if trained.numel() != given.numel():
                continue
            apart = (trained.reshape(given.shape).to(given) - given).norm()
            if bool(apart <= ALIKE * given.norm()):
                options = {name: value for name, value in call.options.items() if value is not None}
                result = function(answer.reshape(given.shape).to(given), call.target.detach(), **options)
                return result.mean() if isinstance(result, torch.Tensor) else None
        return None
