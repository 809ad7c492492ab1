"""Gradient accumulation: several backward calls a step, each on another batch, and what their losses are divided by."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from auditor.evidence import Accumulation, Location
from auditor.probe.collect import Collector, LoopCall, Unavailable
from auditor.probe.fingerprint import different, fingerprint
from auditor.probe.losscall import LossCall
from auditor.probe.lossgraph import Term, terms
from auditor.probe.parts.gradients import dense_gradients, norms
from auditor.probe.questions import rate_of
from auditor.probe.steps import StepSeen, fetch

CHECKED_STEPS = 8


@dataclass
class _MicroBatch:
    """What led up to one backward call."""

    root: torch.Tensor | None = None  # 0-d
    site: Location | None = None
    losses: list[torch.Tensor] = field(default_factory=list)
    counted: list[torch.Tensor] = field(default_factory=list)
    print: tuple[torch.Tensor, ...] = ()
    terms: list[Term] = field(default_factory=list)  # what backward()'s root is put together of

    def own_mean(self) -> bool:
        """No loss function was heard, and what backward() got is a multiple of one mean."""
        return not self.losses and len(self.terms) == 1 and self.terms[0].kind == "mean" and self.terms[0].factor != 0

    def values(self) -> int:
        """How many values its loss is the mean or the sum of; 0 where the graph does not tell."""
        if len(self.terms) != 1 or self.terms[0].kind == "other" or len(self.losses) > 1:
            return 0
        return self.terms[0].entries or (int(self.counted[0]) if len(self.counted) == 1 else 0)

    def of_one_value(self) -> float:
        """What one of these values counts."""
        term = self.terms[0]
        return abs(term.factor) / (self.values() if term.kind == "mean" else 1)


class AccumulationCollector(Collector):
    name = "accumulation"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._now = _MicroBatch()
        self._step: list[_MicroBatch] = []
        self._steps: list[list[_MicroBatch]] = []
        self._reductions: set[str] = set()
        self._after_backward: torch.Tensor | None = None
        self._rescaled: list[torch.Tensor] = []
        self._clipping = False

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self.step < CHECKED_STEPS:
            self._now.print = fingerprint(args, kwargs)

    def loss_called(self, call: LossCall) -> None:
        if self.step >= CHECKED_STEPS:
            return
        self._now.losses.append(call.result.detach().float().sum())
        self._reductions.add(call.reduction)
        if call.class_labels:
            self._now.counted.append((call.target.detach() != call.ignore_index).sum())

    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None:
        if self.step >= CHECKED_STEPS:
            return
        seen = self.probe.loop.current.backwards[-len(roots) :]
        if seen:
            self._now.root = torch.stack([each.total().float() for each in seen]).sum()
            self._now.site = seen[-1].location
            self._now.terms = [term for root in roots if root.grad_fn is not None for term in terms(root.grad_fn)]
        self._step.append(self._now)
        self._now = _MicroBatch()

    def backward_ended(self) -> None:
        if self.step < CHECKED_STEPS and len(self._step) > 1:
            self._after_backward = self._norm(self.probe.program.trained_parameters())

    def loop_call(self, what: LoopCall, subject: Any) -> None:
        if what == "zero_grad" and not self.probe.updating:
            self._step = []  # what came before was not accumulated but read: an attack on the inputs, for example

    def clip_begins(self, kind: str, parameters: Any, limit: float) -> None:
        self._clipping = True

    def update_begins(self, optimizer: torch.optim.Optimizer | None, parameters: list[torch.Tensor]) -> None:
        if self._after_backward is not None:
            norm = self._norm(self.probe.program.trained_parameters())
            if norm is not None:
                self._rescaled.append(norm / self._after_backward)
            self._after_backward = None

    def step_ended(self, step: StepSeen) -> None:
        if self._step and self.step < CHECKED_STEPS:
            self._steps.append(self._step)
        self._step = []

    @staticmethod
    def _norm(parameters: list[torch.Tensor]) -> torch.Tensor | None:
        _, grads = dense_gradients(parameters)
        return norms(grads).square().sum().sqrt() if grads else None

    def part(self) -> Accumulation:
        probe = self.probe
        if probe.manual():
            raise Unavailable("the weights are updated without a torch optimizer")
        stepped = probe.program.stepped()
        if not self._steps or not stepped:
            raise Unavailable("no training step was complete", "inconclusive")
        if len(stepped) > 1:
            raise Unavailable("several optimizers step, each with losses of its own")
        if stepped[0].closure:
            raise Unavailable("the optimizer calls the loss itself, in a closure")
        per_step = Counter(len(step) for step in self._steps).most_common(1)[0][0]
        if per_step < 2:
            raise Unavailable("each step follows one backward(): nothing is accumulated")
        steps = [step for step in self._steps if len(step) == per_step]
        kind = type(stepped[0].optimizer).__name__
        own = not probe.program.scalers and all(micro.own_mean() for step in steps for micro in step)
        known = [step for step in steps if all(micro.values() for micro in step)]
        return Accumulation(
            per_step=per_step,
            steps=len(steps),
            batches=min(different([micro.print for micro in step]) for step in steps),
            sites=len({micro.site for step in steps for micro in step}),
            ratios=tuple(_own_ratios(steps) if own else _ratios(steps)),
            reductions=tuple(sorted(self._reductions)),
            own_means=own,
            losses=max(len(micro.losses) for step in steps for micro in step),
            # A scaler divides the gradients by its scale between the two.
            rescaled=() if probe.program.scalers else tuple(fetch(list(self._rescaled))),
            counted=tuple(_counted(step) for step in steps if all(micro.counted for micro in step)),
            values=tuple(tuple(micro.values() for micro in step) for step in known),
            weights=tuple(tuple(micro.of_one_value() for micro in step) for step in known),
            same_last=len(known) > 1 and different([step[-1].print for step in known]) == 1,
            clipping=self._clipping,
            optimizer=kind,
            scale_free="sgd" not in kind.lower(),
            backward_location=steps[0][0].site,
            step_location=stepped[0].step_location,
            rate=rate_of(stepped[0].optimizer, 0),
        )


def _ratios(steps: list[list[_MicroBatch]]) -> list[float]:
    """NaN where no loss function of torch was seen before the backward."""
    found: list[torch.Tensor | None] = []
    for step in steps:
        for micro in step:
            whole = torch.stack(micro.losses).sum() if micro.losses else None
            found.append(micro.root / whole if whole is not None and micro.root is not None else None)
    return fetch(found)


def _own_ratios(steps: list[list[_MicroBatch]]) -> list[float]:
    return [abs(micro.terms[0].factor) for step in steps for micro in step]


def _counted(step: list[_MicroBatch]) -> tuple[int, ...]:
    return tuple(int(value) for value in fetch([torch.stack(micro.counted).sum() for micro in step]))
