"""What the loop is fed: it records the batches of the observed steps, and hands them out again in experiments.

Two ways in. A loop with a DataLoader gets its batches at the iterator's __next__. A loop without one gets them as the
arguments of its model call and the targets of its loss call; where those do not cover what the loop reads, restoring
the random number generators makes the loop draw the same batch itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from auditor.probe import batches
from auditor.probe.locate import Site, user_site
from auditor.probe.randomness import RandomState
from auditor.probe.stepdata import ModelCall, StepData, Telling, drop_evaluations
from auditor.probe.takenrows import TakenRows, shaped_like

if TYPE_CHECKING:
    from auditor.probe.probe import Probe
    from auditor.probe.program import LoaderSeen

HELD_OUT_BATCHES = 50  # of one pass over a held-out loader, before it is cut short
HELD_OUT_SECONDS = 3.0
PATIENCE = 8  # batches that a loop may fetch and not use
PASSES = 4  # over one loader, whose order is kept
MOST_DRAWN = 100_000  # samples of each
FORMULAS = ("-", "gather")  # losses by hand, by the names under which their targets are kept


@dataclass
class Fetched:
    """A batch, with the random numbers in force right after it was handed out: what the loop does to it next
    (augmentation, noise) draws from them."""

    batch: Any
    noise: RandomState


@dataclass
class Feeding:
    """How one replay is fed. `order` maps the replay's step to a recorded one."""

    order: Callable[[int], int]
    samples: int | None = None  # tile the first rows of the batch
    pinned: bool = False  # one and the same batch, also for the micro-batches of a step
    change: Callable[[Any, int], Any] | None = None  # of the batch, given the replay's step


def _order_of(iterator: Any) -> list[Any]:
    if not hasattr(iterator, "_audited_order"):
        iterator._audited_order = []
    return iterator._audited_order  # type: ignore[no-any-return]


class Feed:
    """Records in observation, serves in experiments."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._pending: list[tuple[Any, Fetched | None]] = []  # fetched, not yet known whether for training
        self._candidates: list[tuple[Any, Fetched | None]] = []
        self.by_loader: dict[int, list[Fetched]] = {}
        self.steps: list[StepData] = []
        self._first_credit: dict[int, int] = {}  # loader -> fetches before the first batch that was trained on
        self._history: dict[int, list[int]] = {}  # loader -> fetches by the end of each observed step
        self.epoch_starts: list[int] = []
        self.cut_at: int | None = None
        self.feeding: Feeding | None = None
        self._served: dict[int, int] = {}
        self._refused = 0  # batches served since the last training forward
        self._bytes = 0
        self.full = False  # no room is left for further batches
        self.largest = 0  # bytes of one batch
        self.exhausted = False  # the last training batch was the last one of its loader
        self._sole: LoaderSeen | None = None  # whose batch alone the latest backward was of
        self._call = 0
        self._target = 0
        self._told_by: Telling | None = None  # what tells a step's own calls from those of evaluations, once dropped
        self._pass: dict[int, tuple[int, float]] = {}
        self.rows = TakenRows(probe)
        self.hears_formulas = False  # between a training forward of a loop without loader and its backward

    # ------------------------------------------------------------------------------------------------------ loader side

    def started(self, iterator: Any, loader: Any) -> None:
        iterator._audited_loader = loader
        seen = self._probe.program.loader(loader)
        self._pass[id(iterator)] = (0, time.monotonic())
        if len(seen.passes) < PASSES and self.feeding is None:
            seen.passes.append(_order_of(iterator))
        if seen.training_credits and not self.feeding and not self._probe.looking_on:
            self.epoch_starts.append(self._probe.observed)
        if self._probe.observing:
            self._probe.collectors.pass_started(seen)

    def drawn(self, iterator: Any, index: Any) -> None:
        """The iterator's sampler has chosen the samples of a batch: workers get them ahead of its delivery."""
        order = _order_of(iterator)
        batch = list(index) if isinstance(index, list | tuple) else index
        if self.feeding is None and len(order) * (len(batch) if isinstance(batch, list) else 1) < MOST_DRAWN:
            order.append(batch)

    def advance(self, iterator: Any, original: Callable[[], Any], ends_an_epoch: Callable[[], bool]) -> Any:
        loader = getattr(iterator, "_audited_loader", None)
        if loader is None:
            return original()
        seen = self._probe.program.loader(loader)
        self._probe.before_fetch(seen)
        if self.feeding is not None and seen.training_credits and id(seen) in self.by_loader:
            return self._serve(seen)
        if self._cut_short(iterator, seen, ends_an_epoch):
            raise StopIteration
        began = time.perf_counter()
        try:
            batch = original()
        except StopIteration:
            self.exhausted = self.exhausted or bool(seen.training_credits)
            raise
        self.exhausted = self.exhausted and not seen.training_credits
        seen.waited += time.perf_counter() - began
        seen.fetches += 1
        count, since = self._pass.get(id(iterator), (0, time.monotonic()))
        self._pass[id(iterator)] = (count + 1, since)
        if self.feeding is None:
            held_out = seen.held_out_credits and not seen.training_credits
            keep = self._wants_batches() and not held_out and self._has_room(batch)
            self._pending.append((loader, Fetched(batches.clone(batch), RandomState.capture()) if keep else None))
            self._probe.batch_fetched(seen, batch)
        return batch

    def _cut_short(self, iterator: Any, seen: Any, ends_an_epoch: Callable[[], bool]) -> bool:
        """Time lapse: end the first training epoch, long evaluations, and all but the first batch in experiments."""
        if not self._probe.spec.experiments:
            return False
        count, since = self._pass.get(id(iterator), (0, time.monotonic()))
        if seen.training_credits:
            due = self.cut_at is None and not self.epoch_starts and self._probe.observed >= self._probe.lapse_after
            if due and count and self._probe.time_lapse and ends_an_epoch():
                self.cut_at = self._probe.observed
                return True
            return False
        long = count >= HELD_OUT_BATCHES
        if self._probe.alone:  # ranks that train together must not leave a loop at different times
            long = long or (count >= 1 and time.monotonic() - since > HELD_OUT_SECONDS)
        return (long or (self.feeding is not None and count >= 1)) and ends_an_epoch()

    def _serve(self, seen: LoaderSeen) -> Any:
        assert self.feeding is not None
        recorded = self.by_loader[id(seen)]
        position = self._served.get(id(seen), 0)
        self._served[id(seen)] = position + 1
        # A step may take several batches: `order` speaks of steps. Before position 0 lie what the loop fetches ahead
        # and throws away.
        step, offset = divmod(max(0, position), self._per_step(seen))
        offset = 0 if self.feeding.pinned else offset
        self._refused += 1
        # A loop that throws batches away before its forward may do so with this one, for ever: others come after it.
        further = max(0, self._refused - self._per_step(seen) * len(self.by_loader) - PATIENCE)
        fetched = recorded[(self.feeding.order(step) * self._per_step(seen) + offset + further) % len(recorded)]
        self._probe.director.player.set_noise(fetched.noise, position)
        batch = batches.clone(fetched.batch)
        if self.feeding.samples is not None:
            batch = batches.tile(batch, self.feeding.samples)
        return batch if self.feeding.change is None else self.feeding.change(batch, step)

    # ------------------------------------------------------------------------------------------------- who consumed it

    def forward_with_gradient(self, module: nn.Module) -> None:
        self._refused = 0
        if self._pending:
            for loader, _ in self._candidates:
                self._probe.program.loader(loader).held_out_credits += 1
            self._candidates = self._pending
            self._pending = []
        for loader, _ in self._candidates:
            self._probe.program.loader(loader).fed(module)

    def forward_without_gradient(self, module: nn.Module) -> None:
        for loader, _ in self._pending:
            seen = self._probe.program.loader(loader)
            seen.held_out_credits += 1
            seen.fed(module)
        self._pending = []

    def backward(self) -> None:
        """What was fetched for the forward that this backward follows was training data."""
        self.hears_formulas = False
        consumed = self._candidates or self._pending
        if not self._candidates:
            self._pending = []
        loaders = {id(loader): loader for loader, _ in consumed}
        self._sole = self._probe.program.loader(*loaders.values()) if len(loaders) == 1 else None
        for loader, fetched in consumed:
            seen = self._probe.program.loader(loader)
            seen.training_credits += 1
            waiting = sum(1 for other, _ in [*consumed, *self._pending] if other is loader)
            self._first_credit.setdefault(id(seen), seen.fetches - waiting)
            if seen.training_credits == 1:
                self.epoch_starts[:] = []
            if fetched is not None:
                self._bytes += batches.size_bytes(fetched.batch)
                self.by_loader.setdefault(id(seen), []).append(fetched)
        self._candidates = []

    def updated(self, optimizer: Any) -> None:
        """The optimizer has stepped on what the latest backward was of."""
        if self._sole is not None:
            self._sole.updates[id(optimizer)] = self._sole.updates.get(id(optimizer), 0) + 1

    def _wants_batches(self) -> bool:
        return self._probe.recording and not self.full

    def _has_room(self, value: Any) -> bool:
        """Whether it may be kept: all that is kept, and what waits to be known as training data, stays in bounds."""
        waiting = (fetched for _, fetched in (*self._pending, *self._candidates) if fetched is not None)
        size = batches.size_bytes(value)
        kept = self._bytes + sum(batches.size_bytes(each.batch) for each in waiting)
        self.full = kept + size > self._probe.spec.batch_memory * 2**20
        self.largest = max(self.largest, size)
        return not self.full

    @property
    def has_loader(self) -> bool:
        return bool(self.by_loader)

    # ------------------------------------------------------------------------------------------------------ tensor side

    def arguments(self, module: int, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Record the arguments of a training forward, or replace them by recorded ones."""
        self.hears_formulas = not self.has_loader and (
            self._probe.substituting if self.feeding is not None else self._wants_batches()
        )
        if self.feeding is None:
            if self._wants_batches() and not self.has_loader and self._has_room((args, kwargs)):
                call = ModelCall(module, batches.clone(args), batches.clone(kwargs), user_site())
                self._bytes += batches.size_bytes(call.args) + batches.size_bytes(call.kwargs)
                self._now().calls.append(call)
            return args, kwargs
        if self.has_loader or not self._probe.substituting:
            return args, kwargs
        step = self.recorded_step()
        if self._told_by is not None and step is not None:
            live = self._told_by.call(ModelCall(module, args, kwargs, user_site()))
            if live not in [self._told_by.call(call) for call in step.calls]:
                return args, kwargs  # one of those that were dropped
        index, self._call = self._call, self._call + 1
        if step is None or index >= len(step.calls) or step.calls[index].module != module:
            return args, kwargs
        call = step.calls[index]
        return batches.substitute(args, self._shape(call.args)), batches.substitute(kwargs, self._shape(call.kwargs))

    def target(self, name: str, target: Any, in_model: bool) -> Any:
        """Record the target of a loss call, or replace it. Targets inside the model come with its arguments."""
        if not isinstance(target, torch.Tensor):
            return target
        if self.feeding is None:
            wanted = self._wants_batches() and not self.has_loader and not in_model and not target.requires_grad
            if wanted and self._has_room(target):
                self._bytes += target.numel() * target.element_size()
                self._now().targets.append((name, target.detach().clone()))
            return target
        if self.has_loader or in_model or not self._probe.substituting:
            return target
        step = self.recorded_step()
        if self._dropped_target(step, name, target):
            return target
        index, self._target = self._target, self._target + 1
        if step is None or index >= len(step.targets) or step.targets[index][0] != name:
            return target
        return batches.substitute(target, self._shape(step.targets[index][1]))

    def _dropped_target(self, step: StepData | None, name: str, target: torch.Tensor) -> bool:
        """It is that of an evaluation."""
        if self._told_by is None or step is None:
            return False
        return self._told_by.target((name, target)) not in [self._told_by.target(each) for each in step.targets]

    def operands(self, name: str, prediction: Any, other: Any) -> Any:
        """Record or replace what a prediction is compared with in a formula of the user's own: `pred - y`, or the index
        of `logp.gather(1, y)`. Returns `other`, or the recorded one."""
        if not isinstance(prediction, torch.Tensor) or not isinstance(other, torch.Tensor):
            return other
        given = prediction.requires_grad and not other.requires_grad and other.dim()
        return self.target(name, other, False) if given and other.shape[:1] == prediction.shape[:1] else other

    def step_at_hand(self) -> StepData | None:
        """Of observation, what is recorded of it; None where nothing is."""
        return self._now() if self._wants_batches() and not self.has_loader else None

    def keep_rows(self, step: StepData, line: Site, rows: torch.Tensor) -> None:
        if self._has_room(rows):
            self._bytes += rows.numel() * rows.element_size()
            step.rows.append((line, rows.detach().clone()))

    def shaped(self, rows: torch.Tensor) -> torch.Tensor:
        """As the replay wants them, of recorded rows that were taken by an index."""
        samples = self.feeding.samples if self.feeding is not None else None
        return rows if samples is None else shaped_like(rows, samples, self.batch_size())

    def drop_evaluations(self, observed: int) -> None:
        """Forget calls that belong to evaluations, and leave them alone in replays."""
        self._told_by = self._told_by or drop_evaluations(self.steps[:observed])

    def _now(self) -> StepData:
        while len(self.steps) <= self._probe.observed:
            self.steps.append(StepData())
        return self.steps[self._probe.observed]

    def recorded_step(self) -> StepData | None:
        if not self.steps or self.feeding is None:
            return None
        return self.steps[self.feeding.order(self._probe.replayed) % len(self.steps)]

    def _shape(self, value: Any) -> Any:
        if self.feeding is not None and self.feeding.samples is not None:
            return batches.tile(value, self.feeding.samples)
        return value

    def step_ended(self) -> None:
        if self.feeding is None and not self._probe.looking_on:
            for seen in self._probe.program.loaders:
                if seen.training_credits:
                    self._history.setdefault(id(seen), []).append(seen.fetches - self._first_credit.get(id(seen), 0))
        self._call = self._target = 0
        self.rows.step_ended()

    def _per_step(self, seen: LoaderSeen) -> int:
        """Batches that a step takes from the loader."""
        history = self._history.get(id(seen), [])
        return max(1, round((history[-1] - history[0]) / (len(history) - 1))) if len(history) > 1 else 1

    def _ahead(self, seen: LoaderSeen) -> int:
        """Batches that the loop holds at the end of a step, fetched before they are needed."""
        history = self._history.get(id(seen), [])
        return max(0, history[0] - self._per_step(seen)) if history else 0

    def start_replay(self, feeding: Feeding) -> int:
        """Serve recorded data from now on. Returns the steps that the loop needs to use up what it has fetched ahead;
        the step after them consumes the first recorded batch."""
        self.feeding = feeding
        training = [seen for seen in self._probe.program.loaders if id(seen) in self.by_loader]
        settling = max((-(-self._ahead(seen) // self._per_step(seen)) for seen in training), default=0)
        self._served = {id(seen): self._ahead(seen) - settling * self._per_step(seen) for seen in training}
        self.step_ended()
        self._pending, self._candidates = [], []
        return settling

    # -------------------------------------------------------------------------------------------------------- questions

    def batch_size(self) -> int | None:
        """Rows that can be tiled: the same first dimension in everything that a step consumes."""
        if self.has_loader:
            sizes = {batches.batch_dimension(recorded[0].batch) for recorded in self.by_loader.values()}
        elif self.steps and self.steps[0].calls:
            step = self.steps[0]
            consumed = [call.args for call in step.calls] + [call.kwargs for call in step.calls]
            known = [target for name, target in step.targets if name not in FORMULAS]
            whole = [*consumed, *(known or [target for _, target in step.targets])]
            sizes = {batches.batch_dimension(whole)}
        else:
            return None
        return sizes.pop() if len(sizes) == 1 else None

    def noise_states(self) -> list[RandomState]:
        """After each fetch of the first training loader."""
        return [fetched.noise for recorded in list(self.by_loader.values())[:1] for fetched in recorded]

    def first_batch(self) -> Any:
        """What the first observed step consumed, all loaders or calls together."""
        if self.has_loader:
            return [recorded[0].batch for recorded in self.by_loader.values()]
        step = self.steps[0] if self.steps else StepData()
        return [[call.args, call.kwargs] for call in step.calls] + [target for _, target in step.targets]
