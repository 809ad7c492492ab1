"""What cross entropy receives as its logits: rows that sum to one have been through a softmax already."""

from __future__ import annotations

from typing import Any

import torch

from auditor.evidence import Location, LossInput, LossInputs
from auditor.probe.collect import Collector, Unavailable, sampled
from auditor.probe.graph import Producer, producer
from auditor.probe.losscall import LossCall


class _Site:
    def __init__(self, call: LossCall, made_by: Producer) -> None:
        self.function = call.name
        self.location: Location | None = call.location
        self.classes = call.classes
        self.made_by = made_by
        self.calls = 0
        self.rows = 0
        self.extremes: torch.Tensor | None = None  # (4,): row-sum error, -min, max, error of exp row sums


class LossInputsCollector(Collector):
    name = "loss_inputs"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._sites: dict[tuple[str, Location | None], _Site] = {}

    def loss_called(self, call: LossCall) -> None:
        if call.name != "cross_entropy" or call.input.dim() < 2 or not call.input.numel() or not sampled(self.step):
            return
        key = (call.name, call.location)
        site = self._sites.get(key)
        if site is None:
            site = self._sites[key] = _Site(call, producer(call.input, self.probe))
        logits = call.input.detach().float().movedim(1, -1)
        logits = logits.reshape(-1, logits.shape[-1])
        extremes = torch.stack(
            [
                (logits.sum(1) - 1).abs().max(),
                -logits.min(),
                logits.max(),
                (logits.logsumexp(1)).abs().max(),
            ]
        )
        site.extremes = extremes if site.extremes is None else torch.maximum(site.extremes, extremes)
        site.calls += 1
        site.rows += logits.shape[0]

    def part(self) -> LossInputs:
        if not self._sites:
            raise Unavailable("cross entropy is not called in training")
        return LossInputs(calls=tuple(_describe(site) for site in self._sites.values()))


def _describe(site: _Site) -> LossInput:
    assert site.extremes is not None
    error, low, high, log_error = site.extremes.tolist()
    return LossInput(
        function=site.function,
        location=site.location,
        calls=site.calls,
        rows=site.rows,
        classes=site.classes,
        row_sum_error=error,
        min_value=-low,
        max_value=high,
        log_probabilities=log_error < 1e-4,
        producer=site.made_by.operation,
        producer_layer=site.made_by.layer,
        producer_location=site.made_by.location,
    )
