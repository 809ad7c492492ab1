"""The order in which a loop calls its GradScaler: scale, backward, unscale_, clipping, step, update."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from auditor.evidence import Location, ScaledClip, ScalerUse
from auditor.probe.collect import Collector, LoopCall, Unavailable
from auditor.probe.locate import user_location
from auditor.probe.parts.gradients import dense_gradients
from auditor.probe.steps import StepSeen, fetch


@dataclass
class _Since:
    """One optimizer since its last step."""

    plain: int = 0  # backward calls on a loss that was not scaled
    scaled: int = 0
    unscaled: bool = False


@dataclass
class _Clip:
    step: int
    kind: Literal["norm", "value"]
    limit: float
    seen: torch.Tensor | None
    scale: torch.Tensor | None
    unscaled: bool
    location: Location | None


@dataclass
class _Scaler:
    scaler: Any  # held, so that no other one gets its id
    steps: set[int] = field(default_factory=set)


class ScalerUseCollector(Collector):
    """Only calls in observation count; a scaler that is switched off is no scaler."""

    name = "scaler_use"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._scalers: dict[int, _Scaler] = {}
        self._latest: Any = None
        self._scaled = False  # a loss was scaled since the last backward
        self._since: dict[int, _Since] = {}
        self._stepping: Any = None  # the optimizer that scaler.step() is about
        self._clipping: tuple[bool, torch.Tensor | None] | None = None
        self._clips: list[_Clip] = []
        self._counts = {"scaler_step": 0, "scaler_update": 0, "direct": 0, "unscaled_loss": 0, "mixed": 0}
        self._scales: list[torch.Tensor | None] = []
        self._skipped: list[tuple[int, torch.Tensor | None]] = []
        self._faulty_step: Location | None = None
        self._first_step: Location | None = None
        self._backward_location: Location | None = None
        self._plain_location: Location | None = None

    # ---------------------------------------------------------------------------------------------------------- events

    def loop_call(self, what: LoopCall, subject: Any) -> None:
        if what == "scale":
            self._latest, self._scaled = subject, True
            self._scalers.setdefault(id(subject), _Scaler(subject)).steps.add(self.step)
        elif what == "unscale" and self._stepping is None:
            self._state(subject).unscaled = True
        elif what == "scaler_step":
            self._scaler_steps(subject)
        elif what == "scaler_stepped":
            self._since[id(subject)] = _Since()
            self._stepping = None
        elif what == "scaler_update":
            self._counts["scaler_update"] += 1

    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None:
        for record in self.probe.program.optimizers:
            state = self._state(record.optimizer)
            if self._scaled:
                state.scaled += 1
            else:
                state.plain += 1
        if self._scalers and not self._scaled and self._plain_location is None:
            self._plain_location = user_location()
        self._scaled = False

    def clip_begins(self, kind: str, parameters: Any, limit: float) -> None:
        self._clipping = None
        if self._latest is None:
            return
        given = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
        ids = {id(parameter) for parameter in given}
        states = [
            self._state(record.optimizer)
            for record in self.probe.program.optimizers
            if not ids.isdisjoint(map(id, record.parameters))
        ]
        states = [state for state in states if state.scaled]
        if states:
            self._clipping = all(state.unscaled for state in states), _largest(given) if kind == "value" else None

    def clipped(self, kind: str, limit: float, result: Any, location: Location | None) -> None:
        if self._clipping is None:
            return
        unscaled, largest = self._clipping
        seen = result.detach().clone() if isinstance(result, torch.Tensor) else largest
        kept: Literal["norm", "value"] = "norm" if kind == "norm" else "value"
        self._clips.append(_Clip(self.step, kept, limit, seen, _scale_of(self._latest), unscaled, location))
        self._clipping = None

    def update_begins(self, optimizer: torch.optim.Optimizer | None, parameters: list[torch.Tensor]) -> None:
        if optimizer is None or self._stepping is optimizer or self._latest is None:
            return
        state = self._state(optimizer)
        if state.scaled and not state.unscaled:
            self._counts["direct"] += 1
            self._faulty_step = self._faulty_step or user_location()

    def update_ended(self, optimizer: torch.optim.Optimizer | None, parameters: list[torch.Tensor]) -> None:
        if optimizer is not None:
            self._since[id(optimizer)] = _Since()

    def step_ended(self, step: StepSeen) -> None:
        self._scales.append(_scale_of(self._latest))
        if step.skipped:
            self._skipped.append((self.step, step.loss()))
        if self._backward_location is None and step.backwards:
            self._backward_location = step.backwards[0].location

    # --------------------------------------------------------------------------------------------------------- helpers

    def _state(self, optimizer: Any) -> _Since:
        return self._since.setdefault(id(optimizer), _Since())

    def _scaler_steps(self, optimizer: Any) -> None:
        self._stepping = optimizer
        self._counts["scaler_step"] += 1
        location = user_location()
        self._first_step = self._first_step or location
        state = self._state(optimizer)
        if state.plain and not state.scaled:
            self._counts["unscaled_loss"] += 1
            self._faulty_step = self._faulty_step or location
        elif state.plain:
            self._counts["mixed"] += 1

    # ------------------------------------------------------------------------------------------------------------ part

    def mixes(self) -> bool:
        """Whether backwards on scaled and on other losses came before one and the same step."""
        return self._counts["mixed"] > 0

    def part(self) -> ScalerUse:
        if not self._scalers:
            raise Unavailable("no GradScaler scales a loss here")
        finite = torch.isfinite(torch.tensor(fetch([loss for _, loss in self._skipped])))
        return ScalerUse(
            steps=len(self._scales),
            scalers=len(self._scalers),
            single_step_scalers=sum(1 for each in self._scalers.values() if len(each.steps) == 1),
            scaler_steps=self._counts["scaler_step"],
            updates=self._counts["scaler_update"],
            direct_steps=self._counts["direct"],
            unscaled_losses=self._counts["unscaled_loss"],
            mixed_losses=self._counts["mixed"],
            skipped=tuple(step for step, _ in self._skipped),
            finite_losses=bool(finite.all()),
            scales=tuple(fetch(self._scales)),
            clips=self._scaled_clips(),
            built_location=self.probe.program.scaler_location,
            step_location=self._faulty_step or self._first_step,
            clip_location=next((clip.location for clip in self._clips if not clip.unscaled), None),
            backward_location=self._backward_location,
            plain_location=self._plain_location,
        )

    def _scaled_clips(self) -> tuple[ScaledClip, ...]:
        seen, scales = fetch([clip.seen for clip in self._clips]), fetch([clip.scale for clip in self._clips])
        return tuple(
            ScaledClip(step=clip.step, kind=clip.kind, limit=clip.limit, seen=norm, scale=scale, unscaled=clip.unscaled)
            for clip, norm, scale in zip(self._clips, seen, scales, strict=True)
        )


def _scale_of(scaler: Any) -> torch.Tensor | None:
    """0-d, on its device; a copy, because the scaler changes it in place."""
    scale = getattr(scaler, "_scale", None)
    return scale.detach().clone() if isinstance(scale, torch.Tensor) else None


def _largest(parameters: list[torch.Tensor]) -> torch.Tensor | None:
    """0-d: the largest absolute value of all gradients."""
    _, gradients = dense_gradients(parameters)
    gradients = [gradient for gradient in gradients if gradient.numel()]
    if not gradients:
        return None
    return torch.stack([each.float() for each in torch._foreach_norm(gradients, float("inf"))]).max()
