"""Hold the weights from the middle of a replay on: what is left in the losses is the noise of the batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from auditor.evidence import HeldWeights
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.experiments.paired import hopeless
from auditor.probe.replay import Experiment, NotRun, Replay

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

STEPS = 60
FEWEST = 30
MOST_PARAMETERS = 20_000_000  # one further copy of the gradient is kept on the device
MOST_GRADIENTS = 30


def held_weights(probe: Probe) -> Experiment:
    require_rewindable(probe)
    if probe.manual():
        raise NotRun("the weights are updated without a torch optimizer, whose steps could be left out")
    steps = max(FEWEST, min(STEPS, probe.director.affordable_steps() // 2))
    middle = steps // 2
    noise = _GradientNoise(probe, middle)
    control = yield Replay(steps=steps, label="as it is", fewest=FEWEST, order=order(probe), stop=hopeless)
    control.require(FEWEST)
    held = yield Replay(
        steps=steps,
        label="weights held from the middle on",
        fewest=FEWEST,
        order=order(probe),
        rate=lambda step: 1.0 if step < middle else 0.0,
        at_update=noise.add,
        stop=hopeless,
    )
    held.require(FEWEST)
    return HeldWeights(
        control=tuple(control.losses),
        held=tuple(held.losses),
        held_from=middle,
        gradients=noise.count,
        mean_square=noise.mean_square(),
        square_mean=noise.square_mean(),
        batch_size=probe.feed.batch_size(),
        fidelity=probe.fidelity,
        location=probe.program.stepped()[0].location,
    )


class _GradientNoise:
    """Sums up gradients of different batches at the same weights (McCandlish et al. 2018, arXiv 1812.06162, A.1)."""

    def __init__(self, probe: Probe, first: int) -> None:
        self._first = first
        self._sums: list[torch.Tensor] | None = None
        self._squares: list[torch.Tensor] = []  # 0-d each
        size = sum(parameter.numel() for parameter in probe.program.trained_parameters())
        # With several optimizers or parameters on several devices, a step hands its gradients over in pieces.
        self._wanted = size <= MOST_PARAMETERS and len(probe.program.stepped()) == 1

    @property
    def count(self) -> int:
        return len(self._squares)

    def add(self, step: int, parameters: list[torch.Tensor]) -> None:
        if not self._wanted or step < self._first or self.count >= MOST_GRADIENTS:
            return
        gradients = [p.grad.detach() for p in parameters if p.grad is not None and p.grad.layout == torch.strided]
        if not gradients or len({gradient.device for gradient in gradients}) > 1:
            return
        if self._sums is not None and len(self._sums) != len(gradients):
            self._wanted, self._squares = False, []
            return
        self._squares.append(torch.stack([gradient.double().square().sum() for gradient in gradients]).sum())
        if self._sums is None:
            self._sums = [gradient.to(torch.float64, copy=True) for gradient in gradients]
        else:
            for total, gradient in zip(self._sums, gradients, strict=True):
                total.add_(gradient)

    def mean_square(self) -> float:
        return float(torch.stack(self._squares).mean()) if self._squares else 0.0

    def square_mean(self) -> float:
        if self._sums is None or not self._squares:
            return 0.0
        return float(sum((total / self.count).square().sum() for total in self._sums))
