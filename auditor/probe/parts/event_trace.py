"""The order of the calls of each step, and gradients that zero_grad() cleared before a step had used them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from auditor.evidence import CallOrder, ClearedGradients, EventTrace, Location
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, LoopCall, Unavailable
from auditor.probe.fingerprint import different, fingerprint
from auditor.probe.graph import nodes
from auditor.probe.locate import GRADIENTS_READ, sources_mention, user_location
from auditor.probe.owners import sample
from auditor.probe.parts.gradients import dense_gradients, norms
from auditor.probe.steps import StepSeen, fetch

LOOKED = 12  # steps of a loop without loader whose batches are told apart by their content
MOST_CALLS = 200  # letters of one step
MOST_ORDERS = 12
MOST_CLEARED = 500
SAMPLED = 8  # parameters whose values or gradients are compared between two moments of a step
SAME_DIRECTION = 0.999  # least cosine of a gradient that was only scaled, by clipping for example
# A source that looks at the gradients of single backward passes, or has their norms worked out.
_READ = re.compile(GRADIENTS_READ + r"|\b(clip_grad_norm_|clip_grads_with_norm_|get_total_norm|grad_norm)\(")
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
    roots: tuple[Any, ...] = ()  # graph nodes of what the cleared backward was called on; let go at the step
    weights: tuple[torch.Tensor, ...] = ()  # samples, at that backward
    moved: torch.Tensor | None = None  # whether those had changed at the next backward


@dataclass
class _Pending:
    """Backward calls since the last step."""

    count: int = 0
    starts: int = 0  # of the training loader, at the last of them
    batch: int = 0  # fetches so far, at the last of them
    print: tuple[torch.Tensor, ...] = ()  # of the batch of the last of them
    sites: set[Location | None] = field(default_factory=set)
    roots: tuple[Any, ...] = ()
    weights: tuple[torch.Tensor, ...] = ()


class EventTraceCollector(Collector):
    name = "event_trace"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._letters: list[str] = []
        self._orders: Counter[str] = Counter()
        self._pending = _Pending()
        self._open: _Clearing | None = None
        self._clearings: list[_Clearing] = []
        self._of_step: list[_Clearing] = []  # those since the last step
        self._left: list[tuple[torch.Tensor, torch.Tensor]] = []  # gradients that the last backward of them left
        self._by_hand: list[tuple[torch.Tensor, list[_Clearing]]] = []  # cosine with those that the step used
        self._fetches = 0
        self._print: tuple[torch.Tensor, ...] = ()
        self._backwards = self._used = self._steps = 0
        self._empty: list[torch.Tensor] = []  # norms of what an update found after its gradients had been cleared
        self._gone_by_hand = 0
        self._gone = 0  # updates that found no gradient at all
        self._input_gradients = False
        self._left_some = False  # a backward since the last step has left gradients

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
        early = self.step < LOOKED
        if self._open is not None:
            opened, self._open = self._open, None
            self._follow(opened, site, roots)
        if self._of_step and early:
            self._forget_contained(roots)
        self._pending.count += 1
        self._pending.starts = len(self.probe.feed.epoch_starts)
        self._pending.batch, self._pending.print = self._fetches, self._print
        self._pending.sites.add(site)
        if early:
            self._pending.roots = tuple(root.grad_fn for root in roots if root.grad_fn is not None)
            self._pending.weights = self._weights()

    def backward_ended(self) -> None:
        self._left_some = self._left_some or self._any_gradient()
        if self._of_step and not self.probe.updating:
            held = [(p, p.grad) for p in self.probe.program.trained_parameters()]
            dense = [(p, grad) for p, grad in held if grad is not None and not grad.is_sparse]
            self._left = [(parameter, sample(grad)) for parameter, grad in dense[:SAMPLED]]

    def _any_gradient(self) -> bool:
        return any(parameter.grad is not None for parameter in self.probe.program.trained_parameters())

    def _weights(self) -> tuple[torch.Tensor, ...]:
        return tuple(sample(parameter, 16) for parameter in self.probe.program.trained_parameters()[:SAMPLED])

    def _follow(self, opened: _Clearing, site: Location | None, roots: tuple[torch.Tensor, ...]) -> None:
        """What came after the clearing tells what it was. Another line that asks for gradients, and a second look at
        the same batch, may be an attack, a penalty, an optimizer of two passes: its first gradient was meant to be
        read, not to be stepped. Where nothing reads it, it is the gradient of another loss that is lost, be it of the
        same batch or of one from another source."""
        opened.restarted = len(self.probe.feed.epoch_starts) > opened.starts
        has_loader = self.probe.feed.has_loader or self._fetches
        fetched = bool(has_loader) and self._fetches > opened.batch
        one_loop = opened.sites == {site}
        early = self.step < LOOKED
        same_batch = early and not fetched and different([opened.print, self._print]) < 2
        if one_loop and fetched:
            opened.kind = "between"
        elif one_loop and early and not same_batch and not self._reads_gradients(opened, site):
            opened.kind, opened.other = "between", self._print
        elif early and (same_batch or not one_loop) and self._is_a_loss(opened, site):
            opened.kind = "loss"
            opened.moved = _differ(opened.weights, self._weights())
        if opened.kind == "loss":
            self._of_step.append(opened)
        else:
            opened.roots = ()
            self._of_step.extend([opened] if opened.kind else [])

    def _is_a_loss(self, opened: _Clearing, site: Location | None) -> bool:
        return bool(opened.roots) and not self._input_gradients and not self._reads_gradients(opened, site)

    @staticmethod
    def _reads_gradients(opened: _Clearing, site: Location | None) -> bool:
        """Whether a source of the user's looks at `.grad`."""
        return sources_mention(_READ, *(place.file for place in (opened.location, site, *opened.sites) if place))

    def _forget_contained(self, roots: tuple[torch.Tensor, ...]) -> None:
        """A loss that is part of this one gets its gradient now: the pass before was for something else."""
        waiting = [opened for opened in self._of_step if opened.kind == "loss"]
        if waiting:
            inside = set(nodes(roots))
            for opened in waiting:
                if any(node in inside for node in opened.roots):
                    opened.kind = ""

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
                roots=self._pending.roots,
                weights=self._pending.weights,
            )
            self._clearings.append(self._open)
            if self.probe.feed.cut_at == self.step:
                self._open.roots, self._open = (), None  # the probe ended this epoch: what is left over is its doing
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
            opened.kind, opened.roots = "before", ()
        elif self._left_some and all(parameter.grad is None for parameter in parameters):
            self._gone_by_hand += 1  # cleared, `p.grad = None`
        self._left_some = False
        self._compare_with_the_last_backward()
        self._pending = _Pending()

    def _compare_with_the_last_backward(self) -> None:
        """Gradients that are put together by hand have used every pass, whatever was cleared in between."""
        if self._of_step and self._left:
            pairs = [(sample(p.grad), left) for p, left in self._left if p.grad is not None and not p.grad.is_sparse]
            alike = [(now.flatten().float(), left.flatten().float()) for now, left in pairs if now.shape == left.shape]
            if alike:
                now, left = torch.cat([pair[0] for pair in alike]), torch.cat([pair[1] for pair in alike])
                self._by_hand.append((torch.cosine_similarity(now, left, dim=0), self._of_step))
        self._forget_step()

    def _forget_step(self) -> None:
        """No graph is held beyond its step."""
        for opened in self._of_step:
            opened.roots = ()
        self._of_step, self._left = [], []

    def step_ended(self, step: StepSeen) -> None:
        if step.skipped:  # a GradScaler has looked at the gradients, and left the optimizer alone
            self._used += self._pending.count
            if self._open is not None:
                self._open.roots = ()
            self._pending, self._open = _Pending(), None
            self._forget_step()
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
            empty_updates=self._gone
            + (self._gone_by_hand if len(stepped) == 1 else 0)
            + sum(value == 0 for value in fetch(list(self._empty))),
            cleared=self._cleared(),
            closure=any(record.closure for record in stepped),
            input_gradients=self._input_gradients,
            optimizers=len(stepped),
            step_location=stepped[0].step_location if stepped else None,
        )

    def _cleared(self) -> tuple[ClearedGradients, ...]:
        sizes = fetch([clearing.norm for clearing in self._clearings])
        moved = fetch([clearing.moved for clearing in self._clearings])
        for cosine, (_, clearings) in zip(fetch([c for c, _ in self._by_hand]), self._by_hand, strict=True):
            for clearing in clearings if cosine < SAME_DIRECTION else ():
                clearing.kind = ""
        found: dict[Location | None, ClearedGradients] = {}
        for clearing, size, elsewhere in zip(self._clearings, sizes, moved, strict=True):
            if size == 0 or not clearing.kind or (clearing.kind == "loss" and elsewhere != 0):
                continue
            before = found.get(clearing.location) or ClearedGradients(location=clearing.location)
            between = clearing.kind != "before"
            found[clearing.location] = before.model_copy(
                update={
                    "before_update": before.before_update + (not between),
                    "between_backwards": before.between_backwards + between,
                    "between_losses": before.between_losses + (clearing.kind == "loss"),
                    "at_epoch_start": before.at_epoch_start + (between and clearing.restarted),
                    "backwards": before.backwards + clearing.backwards,
                    "norms": (*before.norms, size)[:20],
                }
            )
        return tuple(found.values())


def _differ(some: tuple[torch.Tensor, ...], others: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """0-d: 1 where a value differs, or where the two cannot be compared."""
    if not some or len(some) != len(others) or any(a.shape != b.shape for a, b in zip(some, others, strict=True)):
        return torch.ones(())
    return torch.stack([(a != b).any() for a, b in zip(some, others, strict=True)]).any().float()
