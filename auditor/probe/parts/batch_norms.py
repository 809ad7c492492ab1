"""Batch norms in training: how many samples their statistics come from, and where frozen ones drift to."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from auditor.evidence import BatchNorm, BatchNorms
from auditor.probe.collect import Collector, Unavailable, sampled

FEW = 8  # rows up to which the spread of the batch's means is measured
LARGEST = 2**22  # elements of an input that is measured


@dataclass
class _Seen:
    norm: _BatchNorm
    rows: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    upstream_trained: bool = False
    moments: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)  # (C,) means and variances


class BatchNormsCollector(Collector):
    name = "batch_norms"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._seen: dict[int, _Seen] = {}
        self._steps: set[int] = set()

    def layer_forwarded(self, module: nn.Module, args: Any, result: Any) -> None:
        if not isinstance(module, _BatchNorm) or not sampled(self.step):
            return
        if not args or not isinstance(args[0], torch.Tensor):
            return
        if not module.training and module.running_mean is not None:
            return  # it uses its running statistics, as in evaluation
        given = args[0]
        if given.dim() < 2 or not given.numel():
            return
        seen = self._seen.setdefault(id(module), _Seen(module))
        self._steps.add(self.step)
        seen.rows.append(given.shape[0])
        seen.values.append(given.numel() // given.shape[1])
        seen.upstream_trained = seen.upstream_trained or given.requires_grad
        if given.shape[0] <= FEW and given.numel() <= LARGEST:
            flat = given.detach().float().movedim(1, 0).flatten(1)
            seen.moments.append((flat.mean(1), flat.var(1, unbiased=flat.shape[1] > 1)))

    def part(self) -> BatchNorms:
        if not self._seen:
            raise Unavailable("no batch norm used the statistics of its batch in a training forward")
        names = self.probe.program.module_names()
        return BatchNorms(
            steps=len(self._steps),
            layers=tuple(self._describe(seen, names.get(id(seen.norm), "")) for seen in self._seen.values()),
        )

    def _describe(self, seen: _Seen, name: str) -> BatchNorm:
        norm = seen.norm
        frozen = norm.weight is not None and not norm.weight.requires_grad and not norm.bias.requires_grad
        filled, shift, ratio = self._drift(norm) if frozen else (False, None, None)
        return BatchNorm(
            name=name,
            kind=type(norm).__name__,
            location=self.probe.program.location_of(norm),
            calls=len(seen.rows),
            rows=int(statistics.median_low(seen.rows)),
            fewest_rows=min(seen.rows),
            values=int(statistics.median_low(seen.values)),
            processes=_processes(norm),
            tracked=norm.running_mean is not None,
            noise=_noise(seen.moments) if len(seen.moments) > 2 else None,
            frozen=frozen,
            upstream_trained=seen.upstream_trained,
            filled=filled,
            mean_shift=shift,
            variance_ratio=ratio,
        )

    def _drift(self, norm: _BatchNorm) -> tuple[bool, float | None, float | None]:
        """(whether the statistics meant something, shift of the mean, factor on the variance) since before step 0."""
        mean, variance, initial = norm.running_mean, norm.running_var, self.probe.initial
        if mean is None or variance is None or initial is None:
            return False, None, None
        before = (initial.initial(mean), initial.initial(variance))
        if before[0] is None or before[1] is None:
            return False, None, None
        old_mean, old = before[0].double(), before[1].double().clamp(min=1e-12)
        filled = bool((old_mean != 0).any()) or bool((before[1] != 1).any())
        new = variance.detach().double().cpu().clamp(min=1e-12)
        shift = (mean.detach().double().cpu() - old_mean) / (old + norm.eps).sqrt()
        factor = (new / old).log().abs().median().exp()
        return filled, float(shift.square().mean().sqrt()), float(factor)


def _noise(moments: list[tuple[torch.Tensor, torch.Tensor]]) -> float | None:
    """Variance of the means between batches, from successive differences so that a drift hardly counts, over the mean
    variance within; median over channels."""
    means = torch.stack([mean for mean, _ in moments]).double().cpu()
    within = torch.stack([variance for _, variance in moments]).double().cpu().mean(0)
    between = (means[1:] - means[:-1]).square().mean(0) / 2
    alive = within > 1e-12 * means.square().mean(0).clamp(min=1e-30)
    return float((between / within)[alive].median()) if bool(alive.any()) else None


def _processes(norm: _BatchNorm) -> int:
    shared = isinstance(norm, nn.SyncBatchNorm) and torch.distributed.is_available()
    return torch.distributed.get_world_size() if shared and torch.distributed.is_initialized() else 1
