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
from auditor.probe.held import held

FEW = 8  # rows up to which the spread of the batch's means is measured
LARGEST = 2**22  # elements of an input that is measured


@dataclass
class _Seen:
    norm: _BatchNorm
    rows: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    upstream_trained: bool = False
    moments: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)  # (C,) means and variances
    # Running mean, variance and number of batches after the first and the latest call in which it was frozen.
    first: tuple[torch.Tensor, ...] | None = None
    latest: tuple[torch.Tensor, ...] | None = None


class BatchNormsCollector(Collector):
    name = "batch_norms"
    looks_on = True

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
        if _is_frozen(module) and module.running_mean is not None and module.running_var is not None:
            seen.upstream_trained = seen.upstream_trained or given.requires_grad
            seen.latest = _statistics(module)
            seen.first = seen.first or seen.latest
        if given.shape[0] <= FEW and given.numel() <= LARGEST:
            flat = given.detach().float().movedim(1, 0).flatten(1)
            seen.moments.append((flat.mean(1), flat.var(1, unbiased=flat.shape[1] > 1)))

    def outside_forwarded(self, module: nn.Module, args: Any, result: Any) -> None:
        self.layer_forwarded(module, args, result)

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
        filled, shift, ratio = self._drift(seen)
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
            frozen=seen.first is not None,
            upstream_trained=seen.upstream_trained,
            filled=filled,
            mean_shift=shift,
            variance_ratio=ratio,
        )

    def _drift(self, seen: _Seen) -> tuple[bool, float | None, float | None]:
        """(whether the statistics meant something, shift of the mean, factor on the variance) while it was frozen."""
        if seen.first is None or seen.latest is None:
            return False, None, None
        old_mean, old, batches = (tensor.double().cpu() for tensor in seen.first)
        mean, variance, _ = (tensor.double().cpu() for tensor in seen.latest)
        shift = (mean - old_mean) / (old + seen.norm.eps).sqrt()
        factor = (variance.clamp(min=1e-12) / old.clamp(min=1e-12)).log().abs().median().exp()
        return float(batches) > 1 or self._was_filled(seen.norm), float(shift.square().mean().sqrt()), float(factor)

    def _was_filled(self, norm: _BatchNorm) -> bool:
        """Weights of old checkpoints come without the number of batches: then the statistics themselves tell."""
        initial, mean = self.probe.initial, norm.running_mean
        before = initial.initial(mean) if initial is not None and mean is not None else None
        return before is not None and bool((before != 0).any())


def _is_frozen(norm: _BatchNorm) -> bool:
    own = [held(norm, "weight"), held(norm, "bias")]
    return all(parameter is not None and not parameter.requires_grad for parameter in own)


def _statistics(norm: _BatchNorm) -> tuple[torch.Tensor, ...]:
    batches = norm.num_batches_tracked if norm.num_batches_tracked is not None else torch.zeros(())
    return tuple(kept.detach().clone() for kept in (norm.running_mean, norm.running_var, batches) if kept is not None)


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
