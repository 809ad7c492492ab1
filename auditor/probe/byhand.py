"""Updates by hand although there is an optimizer: one that was built and is never used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from auditor.probe.rewind import is_lazy

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

ELEMENTS = 64  # looked at
MOST_LOOKS = 40  # micro-batches that an unused optimizer is waited for


class UpdatesByHand:
    """Compares a weight before the first training forward with the same one before later ones, until an optimizer
    has stepped."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._weight: torch.Tensor | None = None
        self._before: torch.Tensor | None = None
        self._looks = 0
        self.found = False

    def look(self) -> None:
        """Before a batch is fetched, and before a training forward."""
        probe = self._probe
        if self.found or self._looks > MOST_LOOKS or probe.loop.updates or probe.updating:
            return
        if not probe.program.optimizers:
            return
        with probe.paused():
            self._looks += 1
            if self._weight is None:
                self._weight = next(iter(probe.program.trained_parameters()), None)
                self._before = self._sample()
            elif probe.loop.backwards and self._before is not None:
                now = self._sample()
                self.found = now is not None and not torch.equal(now, self._before)

    def _sample(self) -> torch.Tensor | None:
        if self._weight is None or self._weight.is_sparse or is_lazy(self._weight):
            return None
        return self._weight.detach().reshape(-1)[:ELEMENTS].cpu().clone()
