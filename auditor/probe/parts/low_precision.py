"""Updates of weights that are stored in half precision: do they arrive?

An update of less than half the distance to the next representable number is rounded away, at every step again. Whether
an optimizer makes up for that (a float32 copy, stochastic rounding, a compensation term) is found out on copies: its
own step, from its own state, is taken many times with one and the same gradient, once on a copy in the stored
precision and once on a float32 copy.
"""

from __future__ import annotations

import copy
import time
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import Any

import torch

from auditor.evidence import LostUpdates, LowPrecision
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.program import OptimizerSeen
from auditor.probe.randomness import RandomState
from auditor.probe.steps import StepSeen

LOOKS = (9, 29, 59)  # steps
ELEMENTS = 2**16  # of the copies; whole tensors, so that optimizers that look at more than single elements stay right
REPEATS = 256
SECONDS = 0.5  # for the steps on copies, at one look
DISTANCES = 1.5  # representable ones that a tested element moves in float32
LOW = (torch.bfloat16, torch.float16)


@dataclass
class _Waiting:
    """Between the two ends of a real step: the weights before it, and where the copies' first step took them."""

    record: OptimizerSeen
    chosen: list[torch.Tensor]
    before: list[torch.Tensor]
    first: list[torch.Tensor]  # in the stored precision, after one step of the copies
    wanted: list[torch.Tensor]  # masks
    repeats: int
    tested: list[torch.Tensor]  # masks
    moved: list[torch.Tensor]  # masks
    rate: float


class LowPrecisionCollector(Collector):
    name = "low_precision"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._waiting: _Waiting | None = None
        self._looks: list[LostUpdates] = []
        self._record: OptimizerSeen | None = None
        self._rates: list[float] = []
        self._trouble = ""

    def update_begins(self, optimizer: torch.optim.Optimizer | None, parameters: list[torch.Tensor]) -> None:
        if optimizer is None or self.step not in LOOKS:
            return
        record = self.probe.program.seen(optimizer)
        if not self.probe.alone:  # its step may talk to other ranks
            self._trouble = "several ranks train together"
            return
        if record.closure or (self._record is not None and self._record is not record):
            return  # with a closure, the step is over when the gradients become readable
        chosen = _chosen(parameters)
        if not chosen:
            return
        self._record = record
        state = RandomState.capture()
        try:
            self._waiting = _try_out(record, chosen)
        except Exception as why:  # an optimizer that cannot be copied
            self._trouble = f"{type(why).__name__}: {str(why)[:120]}"
        finally:
            state.restore()

    def update_ended(self, optimizer: torch.optim.Optimizer | None, parameters: list[torch.Tensor]) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and waiting.record.optimizer is optimizer:
            self._looks.append(_look(waiting, self.step))

    def step_ended(self, step: StepSeen) -> None:
        self._rates.append(step.learning_rate)

    def part(self) -> LowPrecision:
        optimizers = self.probe.program.stepped()
        low = [p for record in optimizers for p in record.parameters if p.dtype in LOW]
        if not low:
            raise Unavailable("no weight that is trained is stored in bfloat16 or float16")
        if self._record is None or not self._looks:
            why = f" ({self._trouble})" if self._trouble else ""
            raise Unavailable(f"no step of an optimizer could be taken on copies of its weights{why}", "inconclusive")
        own = [p for p in self._record.parameters if p.dtype in LOW]
        elements = sum(p.numel() for p in own)
        model = next((model for _, model in self.probe.program.models()), None)
        return LowPrecision(
            optimizer=type(self._record.optimizer).__name__,
            dtype=str(own[0].dtype).removeprefix("torch."),
            elements=elements,
            share=elements / max(1, sum(p.numel() for p in self._record.parameters)),
            looks=tuple(self._looks),
            rising_rate=len(self._rates) > 2 and self._rates[-1] > self._rates[-2],
            location=self._record.location,
            dtype_location=self.probe.program.location_of(model),
        )


def _chosen(parameters: list[torch.Tensor]) -> list[torch.Tensor]:
    """Low-precision weights with a gradient, spread over the model, up to ELEMENTS in all."""
    low = [p for p in parameters if p.dtype in LOW and p.grad is not None and not p.grad.is_sparse and p.numel()]
    low = [p for p in low if type(p.data) is torch.Tensor]  # no shards
    stride = 1
    while low and stride < len(low) and sum(p.numel() for p in low[::stride]) > ELEMENTS:
        stride *= 2
    kept: list[torch.Tensor] = []
    total = 0
    for parameter in low[::stride]:
        if kept and total + parameter.numel() > ELEMENTS:
            continue
        kept.append(parameter)
        total += parameter.numel()
    return kept if total <= 8 * ELEMENTS else []


def _try_out(record: OptimizerSeen, chosen: list[torch.Tensor]) -> _Waiting:
    stored = _Copy(record.optimizer, chosen, torch.preserve_format)
    exact = _Copy(record.optimizer, chosen, torch.float32)
    before = [p.detach().clone() for p in chosen]
    for each in (stored, exact):
        each.step()
    first = [p.detach().clone() for p in stored.parameters]
    wanted = [p != b.float() for p, b in zip(exact.parameters, before, strict=True)]
    repeats, until = 1, time.monotonic() + SECONDS
    tested = _far_enough(exact, before)
    # Until half of what moves at all has moved far enough to tell.
    while repeats < REPEATS and time.monotonic() < until:
        for _ in range(repeats):
            stored.step()
            exact.step()
        repeats *= 2
        tested = _far_enough(exact, before)
        if 2 * _total(tested) >= _total(wanted):
            break
    moved = [p != b for p, b in zip(stored.parameters, before, strict=True)]
    rate = float(record.optimizer.param_groups[0].get("lr", float("nan")))
    return _Waiting(record, chosen, before, first, wanted, repeats, tested, moved, rate)


class _Copy:
    """An optimizer of the same class, state and options over copies of some weights, with their present gradients."""

    def __init__(self, optimizer: torch.optim.Optimizer, chosen: list[torch.Tensor], dtype: Any) -> None:
        self._kind = type(optimizer)
        low = dtype is torch.preserve_format

        def copied(value: Any, of: torch.Tensor) -> Any:
            if isinstance(value, torch.Tensor):
                half = not low and value.dtype in LOW
                return value.detach().to(torch.float32 if half else value.dtype, copy=True)
            return copy.deepcopy(value)

        twins: dict[int, torch.Tensor] = {}
        for parameter in chosen:
            twin = torch.nn.Parameter(copied(parameter, parameter))
            twin.grad = copied(parameter.grad, parameter)
            twins[id(parameter)] = twin
        self.parameters = [twins[id(parameter)] for parameter in chosen]
        self._twin = copy.copy(optimizer)
        for name, value in list(vars(self._twin).items()):
            if isinstance(value, list | dict | set):  # what a step may add to
                setattr(self._twin, name, copy.copy(value))
        vars(self._twin).pop("step", None)  # a scheduler's wrapper, bound to the original
        self._twin.param_groups = []
        for group in optimizer.param_groups:
            inside = [twins[id(p)] for p in group["params"] if id(p) in twins]
            if inside:
                options = {key: copy.deepcopy(value) for key, value in group.items() if key != "params"}
                self._twin.param_groups.append({**options, "params": inside})
        self._twin.state = defaultdict(dict)
        for parameter in chosen:
            state = optimizer.state.get(parameter)
            if state:
                kept = {key: copied(value, parameter) for key, value in state.items()}
                self._twin.state[twins[id(parameter)]] = kept
        for name in ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks"):
            setattr(self._twin, name, OrderedDict())

    def step(self) -> None:
        gradients = [parameter.grad for parameter in self.parameters]
        self._kind.step(self._twin)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient


def _far_enough(exact: _Copy, before: list[torch.Tensor]) -> list[torch.Tensor]:
    masks = []
    for parameter, start in zip(exact.parameters, before, strict=True):
        away = torch.where(parameter.detach() >= start.float(), torch.inf, -torch.inf).to(start.dtype)
        distance = (torch.nextafter(start, away).float() - start.float()).abs()
        masks.append((parameter.detach() - start.float()).abs() >= DISTANCES * distance)
    return masks


def _look(waiting: _Waiting, step: int) -> LostUpdates:
    """Compares with what the real step did. Synchronises, at a few steps of programs with half-precision weights."""
    wanted, tested = _total(waiting.wanted), _total(waiting.tested)
    after = [p.detach() for p in waiting.chosen]
    triples = list(zip(after, waiting.before, waiting.wanted, strict=True))
    unchanged = sum(int(((p == b) & mask).sum()) for p, b, mask in triples)
    stuck = sum(int((mask & ~moved).sum()) for mask, moved in zip(waiting.tested, waiting.moved, strict=True))
    alike = sum(int((p == f).sum()) for p, f in zip(after, waiting.first, strict=True))
    return LostUpdates(
        step=step,
        learning_rate=waiting.rate,
        wanted=wanted,
        unchanged=unchanged / max(1, wanted),
        repeats=waiting.repeats,
        tested=tested,
        stuck=stuck / max(1, tested),
        agreement=alike / max(1, sum(p.numel() for p in after)),
    )


def _total(masks: list[torch.Tensor]) -> int:
    return sum(int(mask.sum()) for mask in masks)
