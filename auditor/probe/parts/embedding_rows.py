"""Which rows of each embedding the observed steps ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from auditor.evidence import EmbeddingLookups, EmbeddingRows
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, Unavailable


@dataclass
class _Asked:
    module: nn.Embedding | nn.EmbeddingBag
    ends: list[torch.Tensor] = field(default_factory=list)  # (2,) each: lowest and highest row of a call
    lookups: int = 0


class EmbeddingRowsCollector(Collector):
    name = "embedding_rows"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._asked: dict[int, _Asked] = {}
        self._fractions_only = True  # every call of a root module so far: no integers among what it was given

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        given = [tensor.dtype for tensor in tensors((args, kwargs)) if tensor.dtype != torch.bool]
        self._fractions_only = self._fractions_only and bool(given) and all(kind.is_floating_point for kind in given)

    def layer_forwarded(self, module: nn.Module, args: Any, result: Any) -> None:
        if not isinstance(module, nn.Embedding | nn.EmbeddingBag):
            return
        ids = args[0] if args else None
        if isinstance(ids, torch.Tensor) and ids.numel() and not ids.is_floating_point():
            asked = self._asked.setdefault(id(module), _Asked(module))
            asked.ends.append(torch.stack(ids.detach().aminmax()))
            asked.lookups += ids.numel()

    def part(self) -> EmbeddingRows:
        if not self._asked:
            raise Unavailable("no embedding was seen in a training forward")
        names = self.probe.program.module_names()
        found = []
        for key, asked in self._asked.items():
            ends = torch.stack(asked.ends)
            found.append(
                EmbeddingLookups(
                    name=names.get(key, ""),
                    rows=asked.module.num_embeddings,
                    lowest=int(ends[:, 0].min()),
                    highest=int(ends[:, 1].max()),
                    lookups=asked.lookups,
                    location=self.probe.program.location_of(asked.module),
                )
            )
        return EmbeddingRows(layers=tuple(found), fractions_only=self._fractions_only)
