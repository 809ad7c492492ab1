"""Elements of a parameter whose gradient the loop sets to zero between backward() and step(): are they left alone?"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

LARGEST = 2**24  # elements of a parameter whose gradient is compared before and after the user's own changes
FIRST = 3  # steps that show which parameters are worth it


@dataclass
class Mask:
    """Elements whose gradient is set to zero between backward() and the step."""

    after_backward: torch.Tensor | None = None
    always_zero: torch.Tensor | None = None  # at every sampled update
    cut: torch.Tensor | None = None  # had a gradient after backward(), and none at the update, once at least

    def backward_ended(self, parameter: torch.Tensor) -> None:
        if parameter.grad is not None:
            self.after_backward = parameter.grad.detach() != 0

    def update_begins(self, parameter: torch.Tensor) -> None:
        if self.after_backward is None or parameter.grad is None:
            return
        zero = parameter.grad.detach() == 0
        cut = zero & self.after_backward
        self.cut = cut if self.cut is None else self.cut | cut
        self.always_zero = zero if self.always_zero is None else self.always_zero & zero
        self.after_backward = None


def masked(mask: Mask | None, start: torch.Tensor | None, now: torch.Tensor) -> tuple[int, int, int, float]:
    """(masked elements, those that moved, rows of masked elements only, relative size of the move)."""
    if mask is None or mask.cut is None or mask.always_zero is None or start is None or start.shape != now.shape:
        return 0, 0, 0, 0.0
    frozen = (mask.cut & mask.always_zero).cpu()
    count = int(frozen.sum())
    if not count:
        return 0, 0, 0, 0.0
    rows = int(frozen.reshape(frozen.shape[0], -1).all(1).sum()) if frozen.dim() > 1 else 0
    change = (now - start)[frozen].double()
    size = float(start[frozen].double().norm())
    return count, int((change != 0).sum()), rows, float(change.norm()) / size if size > 0 else 0.0


@dataclass
class LateMasks:
    """Of one optimizer that was built after the observed steps: its first steps, and every tenth."""

    parameters: list[torch.Tensor]
    began: int = 0  # at this step of the loop
    steps: int = 0
    masks: dict[int, Mask] = field(default_factory=dict)
    starts: dict[int, torch.Tensor] = field(default_factory=dict)  # of the masked ones, on the host
    _nonzero: dict[int, int] = field(default_factory=dict)

    def _now(self) -> bool:
        return self.steps < FIRST or (bool(self.masks) and self.steps % 10 == 9)

    def backward_ended(self) -> None:
        if not self._now():
            return
        graded = [parameter for parameter in self.parameters if parameter.grad is not None]
        if self.steps < FIRST:
            self._nonzero = {id(p): int(p.grad.detach().count_nonzero()) for p in graded if p.grad is not None}
        for parameter in graded:
            if id(parameter) in self.masks:
                self.masks[id(parameter)].backward_ended(parameter)

    def update_begins(self) -> None:
        """Nothing has moved in the first of the steps, so that what is masked there begins with its present value."""
        if self._now():
            for parameter in self.parameters:
                self._look(parameter)
        self._nonzero = {}
        self.steps += 1

    def _look(self, parameter: torch.Tensor) -> None:
        if id(parameter) in self.masks:
            self.masks[id(parameter)].update_begins(parameter)
        before = self._nonzero.get(id(parameter))
        if before is None or parameter.grad is None or id(parameter) in self.masks:
            return
        if before > int(parameter.grad.detach().count_nonzero()):
            self.masks[id(parameter)] = Mask()
            self.starts[id(parameter)] = parameter.detach().to("cpu", copy=True)
