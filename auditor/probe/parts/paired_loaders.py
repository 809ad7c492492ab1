"""Loops that take inputs from one loader and their targets from another: do both hand out the same samples together?

The loaders' own samplers have drawn the numbers of the samples, and these are compared. What is held against what is
told by the tensors themselves: a model is called with those of one batch, and a loss, or a difference in a loss by
hand, takes one of another batch, bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import DistributedSampler, RandomSampler, SequentialSampler, SubsetRandomSampler

from auditor.evidence import Location, PairedLoaders
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.graph import kind_of
from auditor.probe.losscall import LossCall
from auditor.probe.parts.program import length
from auditor.probe.program import sampler_of
from auditor.probe.savedtensors import kept

if TYPE_CHECKING:
    from auditor.probe.program import LoaderSeen

STEPS = 6
MOST_NODES = 64  # of a loss's graph, next to its root
DISTANCES = frozenset({"Pow", "Abs", "Mul"})  # what keeps the difference of which it is made
SAMPLERS = (RandomSampler, SubsetRandomSampler, SequentialSampler, DistributedSampler)  # one number, one sample


class PairedLoadersCollector(Collector):
    name = "paired_loaders"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._batches: dict[int, list[torch.Tensor]] = {}  # id of a loader's record -> tensors of its latest batch
        self._records: dict[int, LoaderSeen] = {}
        self._inputs: set[int] = set()  # records whose batches a model was called with, in the step at hand
        self._targets: dict[int, tuple[str, Location | None]] = {}  # records whose batches a loss took
        self._outputs: list[torch.Tensor] = []
        self._found: dict[tuple[int, int], list[tuple[str, Location | None]]] = {}

    def _listens(self) -> bool:
        return self.step < STEPS

    def batch_fetched(self, seen: LoaderSeen, batch: Any) -> None:
        if self._listens():
            self._records[id(seen)] = seen
            self._batches[id(seen)] = [each for each in tensors(batch) if each.dim() and each.numel()]

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self._listens() and len(self._batches) > 1:
            for given in tensors((args, kwargs)):
                self._inputs |= self._owners(given)

    def forwarded(self, module: nn.Module, result: Any) -> None:
        if self._listens() and len(self._batches) > 1:
            self._outputs += [each.detach() for each in tensors(result) if each.requires_grad]

    def loss_called(self, call: LossCall) -> None:
        fits = call.input.shape == call.target.shape or call.class_labels
        if self._listens() and len(self._batches) > 1 and fits and not call.target.requires_grad:
            for owner in self._owners(call.target):
                self._targets.setdefault(owner, (call.name, call.location))

    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None:
        if self._listens() and len(self._batches) > 1:
            if not self._targets:
                self._look_for_differences(roots)
            self._note()
        self._inputs, self._targets, self._outputs = set(), {}, []

    def _owners(self, given: torch.Tensor) -> set[int]:
        return {record for record, batch in self._batches.items() if any(_same(given, each) for each in batch)}

    def _look_for_differences(self, roots: tuple[torch.Tensor, ...]) -> None:
        """Losses by hand: what was squared is an output of the model less a tensor of a batch."""
        queue = [root.grad_fn for root in roots if root.grad_fn is not None]
        for node in queue:  # grows while it is read
            kind = kind_of(node)
            difference = kept(node, "self") if kind in DISTANCES else None
            if isinstance(difference, torch.Tensor):
                for owner in self._compared(difference):
                    self._targets.setdefault(owner, (f"{kind.lower()}()", None))
            queue += [each for each, _ in node.next_functions if each is not None and len(queue) < MOST_NODES]

    def _compared(self, difference: torch.Tensor) -> set[int]:
        return {
            record
            for record, batch in self._batches.items()
            for each in batch
            for output in self._outputs
            if difference.shape == output.shape == each.shape and torch.equal(difference.detach(), output - each)
        }

    def _note(self) -> None:
        """A step whose inputs are all of one loader, and all its targets of one other."""
        if len(self._inputs) == len(self._targets) == 1 and self._inputs.isdisjoint(self._targets):
            (source,), (target,) = self._inputs, self._targets
            self._found.setdefault((source, target), []).append(self._targets[target])

    def part(self) -> PairedLoaders:
        if len(self._found) != 1:
            raise Unavailable("no loss compares outputs for the batches of one DataLoader with those of another")
        (pair, calls) = next(iter(self._found.items()))
        source, target = (self._records[each] for each in pair)
        sizes = [length(getattr(each.loader, "dataset", None)) for each in (source, target)]
        if sizes[0] is None or sizes[0] != sizes[1]:
            raise Unavailable("the two data sets of inputs and targets differ in size, or have none")
        if not all(isinstance(sampler_of(each.loader), SAMPLERS) for each in (source, target)):
            raise Unavailable("a sampler of your own draws the samples")
        orders = [_flat(each.passes[0]) if each.passes else [] for each in (source, target)]
        compared = min(map(len, orders))
        return PairedLoaders(
            inputs=source.name,
            targets=target.name,
            function=calls[0][0],
            steps=len(calls),
            compared=compared,
            apart=sum(one != other for one, other in zip(*orders, strict=False)),
            location=calls[0][1] or target.location,
        )


def _flat(order: list[Any]) -> list[Any]:
    return [index for batch in order for index in (batch if isinstance(batch, list) else [batch])]


def _same(given: torch.Tensor, batch: torch.Tensor) -> bool:
    """The tensor of a batch itself, or its values in another shape or on another device."""
    if given.numel() != batch.numel() or given.dtype != batch.dtype or not given.dim():
        return False
    if given.layout != torch.strided or batch.layout != torch.strided:
        return False
    if given.data_ptr() == batch.data_ptr():
        return True
    return given.shape[0] == batch.shape[0] and torch.equal(
        given.detach().reshape(-1).to(batch.device), batch.reshape(-1)
    )
