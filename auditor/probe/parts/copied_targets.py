"""Targets that stand among the inputs of the same sample: a table that still holds the column that is to be predicted,
a window whose last value is its own target; columns whose gaps were filled by means of the target, and columns that
are a moving mean of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.data import TensorDataset

from auditor.evidence import CopiedTarget, CopiedTargets, Location
from auditor.probe.batches import tensors
from auditor.probe.classfills import ClassFills
from auditor.probe.collect import Collector, Unavailable, sampled
from auditor.probe.locate import user_location
from auditor.probe.losscall import LossCall
from auditor.probe.samples import unwrap
from auditor.probe.targetwindows import MOST_ROWS, MOST_VALUES, TargetWindows

MOST_COLUMNS = 4  # of one target
LARGEST = 2**20  # values of an input that are compared
FEWEST_ROWS = 2  # of a batch


@dataclass
class _Seen:
    """One target beside one input, over the sampled steps."""

    shape: tuple[int, ...]
    equal: torch.Tensor  # (places, columns of the target) bool: so far, in every sample
    place_shape: tuple[int, ...]
    samples: int = 0
    values: list[torch.Tensor] = field(default_factory=list)  # some of the target's, to count how many there are
    location: Location | None = None


class CopiedTargetsCollector(Collector):
    name = "copied_targets"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._batch: list[torch.Tensor] = []  # of the training loader, at the step at hand
        self._given: list[torch.Tensor] = []  # what the model was called with
        self._seen: dict[tuple[int, int], _Seen | None] = {}  # by places of target and input; None: it is none
        self._fills: dict[tuple[int, int], ClassFills] = {}  # by the same places
        self._windows: dict[tuple[int, int], TargetWindows] = {}
        self._dataset: Any = None  # of the loader that fetched the batch at hand
        self._location: Location | None = None

    def batch_fetched(self, seen: Any, batch: Any) -> None:
        self._batch = [t for t in tensors(batch) if t.dim()]
        self._dataset = getattr(seen.loader, "dataset", None)

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._given = [t for t in tensors((args, kwargs)) if not t.requires_grad]
        addresses = {t.untyped_storage().data_ptr() for t in self._given}
        kept = [t for t in self._batch if t.untyped_storage().data_ptr() not in addresses]
        if self._batch and len(kept) < len(self._batch):
            self._location = self._location or user_location()
            for place, target in enumerate(kept):
                self._compare(place, target)
                self._look_up(place, target)
        self._batch = []

    def loss_called(self, call: LossCall) -> None:
        if self._given and not call.in_model and not call.target.requires_grad:
            self._compare(-1, call.target, call.location)

    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None:
        self._given = []

    def _compare(self, place: int, target: torch.Tensor, location: Location | None = None) -> None:
        target = target.detach()
        rows = len(target) if target.dim() else 0
        if rows < FEWEST_ROWS or target.numel() > MOST_COLUMNS * rows:
            return
        wanted = target.reshape(rows, -1)
        for index, given in enumerate(self._given):
            if given.dim() not in (2, 3) or len(given) != rows or not given.is_floating_point():
                continue
            if given.numel() > LARGEST or given.numel() < 4 * wanted.numel() or given.device != target.device:
                continue
            seen_at = location or self._location
            self._windows.setdefault((place, index), TargetWindows()).note(given, wanted, seen_at)
            if not sampled(self.step):
                continue
            self._note((place, index), given.detach(), wanted, seen_at)
            self._fills.setdefault((place, index), ClassFills()).note(given, wanted, seen_at)

    def _look_up(self, place: int, target: torch.Tensor) -> None:
        """The table that the batch was taken from."""
        for index, given in enumerate(self._given):
            windows = self._windows.get((place, index))
            if windows is None or not windows.asks_for_table:
                continue
            mine = next((i for i, t in enumerate(self._batch) if t.data_ptr() == given.data_ptr()), None)
            its = next(i for i, t in enumerate(self._batch) if t is target)
            stored = _stored(self._dataset, len(self._batch)) if mine is not None else []
            if stored and mine is not None:
                windows.note_table(stored[mine], stored[its])

    def _note(self, key: tuple[int, int], given: torch.Tensor, wanted: torch.Tensor, location: Location | None) -> None:
        known = self._seen.get(key)
        if key in self._seen and (known is None or known.shape[1:] != tuple(given.shape[1:])):
            self._seen[key] = None
            return
        flat = given.reshape(len(given), -1, 1)
        equal = (flat == wanted.to(flat.dtype)[:, None, :]).all(0)
        if known is None:
            known = _Seen(tuple(given.shape), equal, tuple(given.shape[1:]), location=location)
            self._seen[key] = known
        elif known.equal.shape == equal.shape:
            known.equal = known.equal & equal
        else:
            self._seen[key] = None
            return
        known.samples += len(given)
        known.values.append(wanted[:64].float())

    def part(self) -> CopiedTargets:
        if not self._seen:
            raise Unavailable("no target with a value a sample, beside an input of numbers, was seen")
        found = [each for seen in self._seen.values() if seen is not None and (each := _describe(seen)) is not None]
        compared = max((seen.samples for seen in self._seen.values() if seen is not None), default=0)
        fills = max((each.found() for each in self._fills.values()), key=len, default=())
        windows = max((each.found() for each in self._windows.values()), key=len, default=())
        return CopiedTargets(samples=compared, copies=tuple(found), fills=fills, windows=windows)


def _stored(dataset: Any, count: int) -> list[torch.Tensor]:
    """The tensors that lie ready in a data set, its own rows of them; [] where there are not so many."""
    base, indices = unwrap(dataset)
    if not isinstance(base, TensorDataset) or len(base.tensors) != count:
        return []
    widest = max(t[0].numel() for t in base.tensors) if len(base) else 0
    most = min(MOST_ROWS, MOST_VALUES // max(1, widest))  # rows of a part are copied
    kept = sorted(indices)[:most] if indices is not None else None
    return [t[kept] if kept is not None else t[:most] for t in base.tensors]


def _describe(seen: _Seen) -> CopiedTarget | None:
    """None unless every column of the target is at one certain place of the input."""
    if not bool(seen.equal.any(0).all()):
        return None
    flat = int(seen.equal[:, 0].int().argmax())
    place = tuple(int(side) for side in torch.unravel_index(torch.tensor(flat), seen.place_shape))
    return CopiedTarget(
        shape=seen.shape,
        place=place,
        samples=seen.samples,
        distinct=len(set(torch.cat(seen.values)[:, 0].tolist())),
        location=seen.location,
    )
