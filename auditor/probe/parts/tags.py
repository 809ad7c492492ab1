"""Several yes-or-no labels for each sample: how often each is one, and how often it is found once training went on."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from auditor.evidence import Location, Tag, Tags
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.losscall import LossCall

MOST_TAGS = 128  # more are items or words that are ranked, not found by a threshold
CHECKED = 8  # steps whose targets are looked at for other values than 0 and 1, and for classes in one-hot rows


class TagsCollector(Collector):
    name = "tags"
    looks_on = True

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._given: list[tuple[int, int]] = []  # address and size of what the model was called with last
        self._key: tuple[str, Location | None, int] | None = None
        self._weighted = False
        self._counts: list[torch.Tensor] = []  # (3, tags) per call: ones, found ones, ones that were answered
        self._rows: list[int] = []
        self._other: list[torch.Tensor] = []  # (2,) per checked call: values between, rows with another sum than 1

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._given = [(tensor.data_ptr(), tensor.numel()) for tensor in tensors((args, kwargs))]

    def loss_called(self, call: LossCall) -> None:
        if not self._is_of_tags(call):
            return
        target = call.target.detach()
        key = call.name, call.location, target.shape[1]
        if self._key is None:
            self._key = key
            self._weighted = any(call.options.get(name) is not None for name in ("weight", "pos_weight"))
        if key != self._key:
            return
        if len(self._other) < CHECKED:
            between = ((target != 0) & (target != 1)).any()
            self._other.append(torch.stack([between, (target.sum(1) != 1).any()]))
        ones = target > 0.5
        answered = call.input.detach() > (0.0 if call.name.endswith("logits") else 0.5)
        self._counts.append(torch.stack([ones, ones & answered, answered]).sum(1))
        self._rows.append(target.shape[0])

    def _is_of_tags(self, call: LossCall) -> bool:
        if not call.binary_labels or call.in_model or call.target.dim() != 2 or call.input.shape != call.target.shape:
            return False
        target = call.target
        if not 2 <= target.shape[1] <= MOST_TAGS or not target.shape[0] or target.requires_grad:
            return False
        # What is to be reconstructed is no label.
        return all(target.data_ptr() != address and target.numel() != size for address, size in self._given)

    def part(self) -> Tags:
        if self._key is None:
            raise Unavailable("no loss with several yes-or-no labels for each sample was called in training")
        between, others = torch.stack(self._other).any(0).tolist()
        if between or not others:
            raise Unavailable("the labels are shares, or classes of which each sample has one")
        counts = torch.stack(self._counts).cpu()
        late = counts[len(counts) * 2 // 3 :].sum(0)
        columns = zip(counts.sum(0)[0].tolist(), *late.tolist(), strict=True)
        return Tags(
            steps=len(counts),
            rows=sum(self._rows),
            tags=tuple(Tag(ones=n, seen=seen, hits=hits, answered=yes) for n, seen, hits, yes in columns),
            weighted=self._weighted,
            location=self._key[1],
        )
