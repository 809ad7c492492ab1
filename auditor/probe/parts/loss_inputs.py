"""What cross entropy receives as its logits: rows that sum to one have been through a softmax already."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from auditor.evidence import Location, LossInput, LossInputs
from auditor.probe.collect import Collector, Unavailable, sampled
from auditor.probe.graph import Producer, producer, producing_node
from auditor.probe.locate import user_location
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
        self._softmaxes: dict[Any, Producer] = {}  # graph node -> where that softmax is, for the forward at hand

    def forward(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._softmaxes = {}

    def operation(self, name: str, output: torch.Tensor) -> None:
        if name != "softmax" or output.grad_fn is None:
            return
        stack = self.probe.calls.stack
        module = stack[-1] if stack else None
        own = module is not None and type(module).__module__.startswith("torch.nn")  # nn.Softmax: where it was built
        place = self.probe.program.location_of(module) if own else None
        layer = self.probe.program.module_names().get(id(module), "") if own else ""
        self._softmaxes[output.grad_fn] = Producer("SoftmaxBackward0", layer, place or user_location())

    def loss_called(self, call: LossCall) -> None:
        if call.name != "cross_entropy" or call.input.dim() < 2 or not call.input.numel() or not sampled(self.step):
            return
        key = (call.name, call.location)
        site = self._sites.get(key)
        if site is None:
            made_by = self._softmaxes.get(producing_node(call.input)) or producer(call.input, self.probe)
            site = self._sites[key] = _Site(call, made_by)
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
