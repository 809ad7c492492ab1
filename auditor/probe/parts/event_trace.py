"""The order of the calls of each step, and gradients that zero_grad() cleared before a step had used them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from auditor.evidence import CallOrder, ClearedGradients, EventTrace, Location
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, LoopCall, Unavailable
from auditor.probe.fingerprint import different, fingerprint
from auditor.probe.locate import user_location
from auditor.probe.parts.gradients import dense_gradients, norms
from auditor.probe.steps import StepSeen, fetch

LOOKED = 12  # steps of a loop without loader whose batches are told apart by their content
MOST_CALLS = 200  # letters of one step
MOST_ORDERS = 12
MOST_CLEARED = 500
LETTERS = {"zero_grad": "z", "scheduler_step": "l", "unscale": "u"}


@dataclass
class _Clearing:
    """One zero_grad() that found gradients no step had used; what comes next tells what it was."""

    location: Location | None
    norm: torch.Tensor
    backwards: int
    sites: set[Location | None]
    batch: int
    print: tuple[torch.Tensor, ...]
    starts: int
    kind: str = ""
    restarted: bool = False  # the loader was started anew before the next backward
    other: tuple[torch.Tensor, ...] = ()  # fingerprint of the batch of the next backward


@dataclass
class _Pending:
    """Backward calls since the last step."""

    count: int = 0
    starts: int = 0  # of the training loader, at the last of them
    batch: int = 0  # fetches so far, at the last of them
    print: tuple[torch.Tensor, ...] = ()  # of the batch of the last of them
    sites: set[Location | None] = field(default_factory=set)


class EventTraceCollector(Collector):
    name = "event_trace"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._letters: list[str] = []
        self._orders: Counter[str] = Counter()
        self._pending = _Pending()
        self._open: _Clearing | None = None
        self._clearings: list[_Clearing] = []
        self._fetches = 0
        self._print: tuple[torch.Tensor, ...] = ()
        self._backwards = self._used = self._steps = 0
        self._empty: list[torch.Tensor] = []  # norms of what an update found after its gradients had been cleared
        self._gone = 0  # updates that found no gradient at all
        self._input_gradients = False

    def _note(self, letter: str) -> None:
        if len(self._letters) < MOST_CALLS:
            self._letters.append(letter)

    def batch_fetched(self, seen: Any, batch: Any) -> None:
        if seen.training_credits or not seen.held_out_credits:
            self._fetches += 1
            self._note("n")

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._note("f")
        if self.step < LOOKED:
            self._print = fingerprint(args, kwargs)
            wanted = any(tensor.requires_grad and tensor.is_leaf for tensor in tensors((args, kwargs)))
            self._input_gradients = self._input_gradients or wanted

    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None:
        self._note("b")
        self._backwards += 1
        recent = self.probe.loop.current.backwards
        site = recent[-1].location if recent else None
        if self._open is not None:
            opened, self._open = self._open, None
            opened.restarted = len(self.probe.feed.epoch_starts) > opened.starts
            # A second look at the same batch, or another line that asks for gradients, is an attack, a penalty, an
            # optimizer of two passes: its first gradient was meant to be read, not to be stepped.
            one_loop = opened.sites == {site}
            fetched = self._fetches > opened.batch if self.probe.feed.has_loader or self._fetches else None
            if one_loop and (fetched or (fetched is None and self.step < LOOKED)):
                opened.kind, opened.other = "between", () if fetched else self._print
        self._pending.count += 1
        self._pending.starts = len(self.probe.feed.epoch_starts)
        self._pending.batch, self._pending.print = self._fetches, self._print
        self._pending.sites.add(site)

    def loop_call(self, what: LoopCall, subject: Any) -> None:
        if what in LETTERS:
            self._note(LETTERS[what])
        if what != "zero_grad":
            return
        if self.probe.updating or not self._pending.count or len(self._clearings) >= MOST_CLEARED:
            return  # a closure clears what its optimizer has read
        parameters = self._trained(subject)
        if not parameters:
            return
        _, grads = dense_gradients(parameters)
        if grads:
            self._open = _Clearing(
                user_location(),
                norms(grads).square().sum().sqrt(),
                self._pending.count,
                self._pending.sites,
                self._pending.batch,
                self._pending.print,
                self._pending.starts,
            )
            self._clearings.append(self._open)
            if self.probe.feed.cut_at == self.step:
                self._open = None  # the probe ended this epoch: what is left over is its doing
        self._pending = _Pending()

    def _trained(self, subject: Any) -> list[torch.Tensor]:
        """Parameters that the call clears; none when it leaves out some of what an optimizer holds."""
        if isinstance(subject, torch.optim.Optimizer):
            return list(self.probe.program.seen(subject).parameters)
        given = {id(parameter) for parameter in subject.parameters()}
        held = [record.parameters for record in self.probe.program.optimizers]
        whole = [parameters for parameters in held if parameters and all(id(p) in given for p in parameters)]
        return whole[-1] if whole else []

    def clip_begins(self, kind: str, parameters: Any, limit: float) -> None:
        self._note("c")

    def update_begins(self, optimizer: torch.optim.Optimizer | None, parameters: list[torch.Tensor]) -> None:
        if optimizer is None:
            return
        self._note("s")
        self._steps += 1
        self._used += self._pending.count
        if self._open is not None:
            opened, self._open = self._open, None
            _, grads = dense_gradients(parameters)
            if grads:
                self._empty.append(norms(grads).square().sum())
            else:
                self._gone += 1
            opened.kind = "before"
        self._pending = _Pending()

    def step_ended(self, step: StepSeen) -> None:
        if step.skipped:  # a GradScaler has looked at the gradients, and left the optimizer alone
            self._used += self._pending.count
            self._pending, self._open = _Pending(), None
        self._orders["".join(self._letters)] += 1
        self._letters = []

    def part(self) -> EventTrace:
        if self.probe.manual():
            raise Unavailable("the weights are updated without a torch optimizer")
        if not self._steps:
            raise Unavailable("no step of an optimizer was seen", "inconclusive")
        stepped = self.probe.program.stepped()
        return EventTrace(
            orders=tuple(CallOrder(calls=c, steps=n) for c, n in self._orders.most_common(MOST_ORDERS)),
            steps=self._steps,
            backwards=self._backwards,
            used_backwards=self._used,
            empty_updates=self._gone + sum(value == 0 for value in fetch(list(self._empty))),
            cleared=self._cleared(),
            closure=any(record.closure for record in stepped),
            input_gradients=self._input_gradients,
            optimizers=len(stepped),
            step_location=stepped[0].step_location if stepped else None,
        )

    def _cleared(self) -> tuple[ClearedGradients, ...]:
        sizes = fetch([clearing.norm for clearing in self._clearings])
        found: dict[Location | None, ClearedGradients] = {}
        for clearing, size in zip(self._clearings, sizes, strict=True):
            if size == 0 or not clearing.kind:
                continue
            if clearing.other and different([clearing.print, clearing.other]) < 2:
                continue
            before = found.get(clearing.location) or ClearedGradients(location=clearing.location)
            between = clearing.kind == "between"
            found[clearing.location] = before.model_copy(
                update={
                    "before_update": before.before_update + (not between),
                    "between_backwards": before.between_backwards + between,
                    "at_epoch_start": before.at_epoch_start + (between and clearing.restarted),
                    "backwards": before.backwards + clearing.backwards,
                    "norms": (*before.norms, size)[:20],
                }
            )
        return tuple(found.values())
