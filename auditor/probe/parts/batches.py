"""What the loop is fed, batch by batch: values that are no numbers, and columns that never change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from auditor.evidence import Batches, NonfiniteBatch
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.program import LoaderSeen
from auditor.probe.steps import StepSeen

MOST_FEATURES = 4096
MOST_ROWS = 4000  # a column that has not changed by then is called constant
SHOWN = 64


class BatchesCollector(Collector):
    """In loops without a loader, what the model is called with in training counts as the batch."""

    name = "batches"
    looks_on = True

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._seen: dict[int, _Watched] = {}
        self._calls = _Watched(None)

    def batch_fetched(self, seen: LoaderSeen, batch: Any) -> None:
        if not seen.held_out_credits or seen.training_credits:
            self._seen.setdefault(id(seen), _Watched(seen)).look(batch)

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if not self.probe.feed.has_loader and not any(watched.used for watched in self._seen.values()):
            given = [tensor for tensor in tensors((args, kwargs)) if not tensor.requires_grad]
            self._calls.look(tuple(given))

    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None:
        for watched in (*self._seen.values(), self._calls):
            watched.trained_on()

    def step_ended(self, step: StepSeen) -> None:
        for watched in (*self._seen.values(), self._calls):
            watched.updated(step.skipped)

    def part(self) -> Batches:
        training = [watched for watched in self._seen.values() if watched.seen and watched.seen.training_credits]
        if not training and not self._calls.batches:
            raise Unavailable("the loop is not fed by a DataLoader, and calls no model")
        return max(training or [self._calls], key=lambda watched: watched.batches).part()


class _Watched:
    """One loader. Batches that lie on a device are left alone: looking would wait for it."""

    def __init__(self, seen: LoaderSeen | None) -> None:
        self.seen = seen  # None: the calls of the model
        self.batches = 0
        self.used = 0  # batches that a backward followed
        self._rows = 0
        self._damaged = 0
        self._found: dict[str, NonfiniteBatch] = {}
        self._low: torch.Tensor | None = None
        self._high: torch.Tensor | None = None
        self._open: bool | None = None  # the latest batch, damaged or not, as long as no backward has followed it
        self._waiting: list[bool] = []  # those of the present step that were trained on: damaged or not
        self._lost = [0, 0]  # whole and damaged batches that never became an update

    def trained_on(self) -> None:
        if self._open is not None:
            self._waiting.append(self._open)
            self._open = None
            self.used += 1

    def updated(self, skipped: bool) -> None:
        """A step is over; `skipped`: a GradScaler left the weights alone."""
        for damaged in self._waiting if skipped else ():
            self._lost[damaged] += 1
        self._waiting = []

    def look(self, batch: Any) -> None:
        if self._open is not None:
            self._lost[self._open] += 1
        named = [(place, tensor) for place, tensor in places(batch) if tensor.device.type == "cpu" and tensor.numel()]
        damaged = False
        for index, (place, tensor) in enumerate(named):
            if tensor.is_floating_point() and tensor.layout == torch.strided:
                last = self.seen is not None and index == len(named) - 1 and index > 0
                damaged = self._check(place, tensor, last=last) or damaged
        self._damaged += damaged
        self._open = damaged
        if named and named[0][1].dim():
            self._rows += named[0][1].shape[0]
        if named and self._rows <= MOST_ROWS and self.seen is not None:  # calls repeat rows in a full batch
            self._follow(named[0][1])
        self.batches += 1

    def _check(self, place: str, tensor: torch.Tensor, last: bool) -> bool:
        """One pass in the ordinary case: NaN and infinity spread to the sum."""
        low = tensor.dtype in (torch.float16, torch.bfloat16)
        if bool(torch.isfinite(tensor.detach().sum(dtype=torch.float32 if low else None))):
            return False
        wrong = ~torch.isfinite(tensor)
        if not bool(wrong.any()) or _is_mask(tensor):
            return False
        if place not in self._found:
            rows = wrong.reshape(wrong.shape[0], -1) if wrong.dim() else wrong.reshape(1, 1)
            table = tensor.dim() == 2
            columns = rows.any(0).nonzero().flatten()
            self._found[place] = NonfiniteBatch(
                place=place,
                batch=self.batches,
                nan=int(torch.isnan(tensor).sum()),
                infinite=int(torch.isinf(tensor).sum()),
                sample=int(rows.any(1).nonzero()[0]),
                feature=int(columns[0]) if table else None,
                features=int(columns.numel()) if table else 0,
                target=last,
            )
        return True

    def _follow(self, tensor: torch.Tensor) -> None:
        """Smallest and largest value of each column, as long as some column has not changed yet."""
        if tensor.dim() != 2 or not tensor.is_floating_point() or tensor.shape[1] > MOST_FEATURES:
            return
        if self._low is not None and self._high is not None:
            if tensor.shape[1] != self._low.numel() or bool((self._low < self._high).all()):
                return
            self._low = torch.minimum(self._low, tensor.detach().amin(0))
            self._high = torch.maximum(self._high, tensor.detach().amax(0))
        else:
            self._low, self._high = tensor.detach().amin(0), tensor.detach().amax(0)

    def part(self) -> Batches:
        constant: list[int] = []
        if self._low is not None and self._high is not None:
            constant = (self._low == self._high).nonzero().flatten().tolist()
        return Batches(
            loader=self.seen.name if self.seen is not None else "",
            batches=self.batches,
            rows=self._rows,
            nonfinite=tuple(self._found.values()),
            nonfinite_batches=self._damaged,
            features=self._low.numel() if self._low is not None else 0,
            constant=tuple(constant[:SHOWN]),
            constants=len(constant),
            lost=self._lost[True],
            lost_whole=self._lost[False],
            location=self.seen.location if self.seen is not None else None,
        )


def _is_mask(tensor: torch.Tensor) -> bool:
    """Nothing but zeros and negative infinities: to be added to attention scores."""
    return bool(((tensor == 0) | torch.isneginf(tensor)).all())


def places(batch: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The batch's tensors with their index or key."""
    if isinstance(batch, Mapping):
        items = [(str(key), value) for key, value in batch.items()]
    elif isinstance(batch, tuple | list):
        items = [(str(index), value) for index, value in enumerate(batch)]
    else:
        items = [("", batch)]
    for place, value in items:
        for tensor in tensors(value):
            yield place, tensor
