"""Inputs of which the model reads a few places only: one step of a sequence, one column of a table.

Found by exchange, as inputs that are not read at all: where every sample can get another one's values at some places
and no output changes by one bit, none of them is read. Sets are halved; the search is given up where much is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from auditor.evidence import UnreadPlaces
from auditor.probe.batches import map_tensors, tensors
from auditor.probe.examination import Examination

SHORTEST = 8  # places along an axis
FEW = 8  # one in so many is read, at most
MOST_CALLS = 40  # of the model, for one axis
MOST_INPUTS = 4
MOST_AXES = 3


def unread_places(
    examination: Examination, size: int, name_of: Callable[[Examination, torch.Tensor], str]
) -> Iterator[UnreadPlaces]:
    """`size`: samples in the batch. `name_of`: what the model's forward calls an argument."""
    given = [t for t in tensors((examination.args, examination.kwargs)) if t.dim() > 1 and t.shape[0] == size]
    for tensor in [t for t in given if t.dtype != torch.bool and not t.requires_grad][:MOST_INPUTS]:
        for axis in range(1, min(tensor.dim(), 1 + MOST_AXES)):
            if tensor.shape[axis] < SHORTEST:
                continue
            read = _Search(examination, tensor, axis).read()
            if read is not None and 0 < len(read) <= tensor.shape[axis] // FEW:
                yield UnreadPlaces(
                    name=name_of(examination, tensor), shape=tuple(tensor.shape), axis=axis, read=tuple(read)
                )


class _Search:
    """For the places along one axis of one input that any output depends on."""

    def __init__(self, examination: Examination, tensor: torch.Tensor, axis: int) -> None:
        self._examination = examination
        self._tensor = tensor
        self._axis = axis
        self._calls = 0
        self._usual = {training: examination.outputs(training=training) for training in (False, True)}

    def read(self) -> list[int] | None:
        """None where that cannot be told: much is read, or the samples hardly differ."""
        length = self._tensor.shape[self._axis]
        differ = (self._tensor != self._tensor.roll(1, 0)).movedim(self._axis, 0).reshape(length, -1).any(1)
        if int(differ.sum()) < length / 2:
            return None
        found: list[int] = []
        waiting = [range(length)]
        while waiting:
            places = waiting.pop()
            if len(found) > length // FEW or self._calls >= MOST_CALLS:
                return None
            if not self._matters(places):
                continue
            if len(places) == 1:
                found.append(places.start)
            else:
                middle = (places.start + places.stop) // 2
                waiting += [range(places.start, middle), range(middle, places.stop)]
        return sorted(found)

    def _matters(self, places: range) -> bool:
        self._calls += 1
        other = self._tensor.clone()
        inside = (slice(None),) * self._axis + (slice(places.start, places.stop),)
        other[inside] = self._tensor.roll(1, 0)[inside]

        def change(tensor: torch.Tensor) -> torch.Tensor:
            return other if tensor is self._tensor else tensor

        args, kwargs = (map_tensors(each, change) for each in (self._examination.args, self._examination.kwargs))
        for training, usual in self._usual.items():
            now = self._examination.outputs(args, kwargs, training=training)
            if len(now) != len(usual) or not all(torch.equal(a, b) for a, b in zip(usual, now, strict=True)):
                return True
        return False
