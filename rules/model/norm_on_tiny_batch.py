"""MOD109: batch norm over one or two samples."""

from __future__ import annotations

import math

from pydantic import Field

from auditor.declare import Finding, Inconclusive, Judgement, Measured, NotApplicable, Options, Severity, rule
from auditor.evidence import BatchNorm, BatchNorms, Loader, Program, RemedyKind

from ..symptoms import NOT_LEARNING
from ..words import count, listing, named, number


class Limits(Options):
    min_samples: int = Field(3, ge=1, description="Samples in a batch from which on its statistics are left alone.")
    max_noise: float = Field(
        0.1, gt=0, description="Largest variance of a channel's mean between batches, over the variance within."
    )
    min_calls: int = Field(3, ge=1, description="Training calls of a norm that have to be seen.")


@rule(
    "MOD109",
    "norm-on-tiny-batch",
    severity=Severity.WARNING,
    explains=NOT_LEARNING,
    fix="""Normalize within the sample: `nn.GroupNorm(8, channels)` or `nn.LayerNorm(features)`; or share statistics
    over devices with `nn.SyncBatchNorm`; give the loader `drop_last=True` if only its last batch is tiny.""",
    remedies=(RemedyKind.GROUP_NORM,),
    references=(
        "https://arxiv.org/abs/1803.08494",
        "https://arxiv.org/abs/1702.03275",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.GroupNorm.html",
    ),
)
def norm_on_tiny_batch(norms: BatchNorms, program: Program | None, limits: Limits) -> Judgement:
    """Batch norm takes its statistics from one or two samples.

    ## What it does

    Counts the samples that every batch norm gets in training, and measures how much the mean of a channel jumps from
    batch to batch.

    ## Why is it bad?

    The mean and the variance of two samples are mostly noise. In training every output is normalized by that noise, of
    two values in a row only their order is left. In evaluation the running averages are used instead, which no batch
    in training ever looked like. So the model is another one than was trained.

    ## How it is measured

    A norm fails when a training batch has fewer than `min-samples` samples *and* the variance of its channel means
    between batches exceeds `max-noise` of the variance within a batch. For independent values that share is one over
    their number; in large maps it is small as long as images are alike.

    A training loader whose last batch holds a single sample is reported as well, when a norm that sees one value a
    channel and sample follows: PyTorch raises an error at the end of the epoch.

    ## When it may be wrong

    - Group, layer and instance norm do not look at other samples and are not concerned.
    - SyncBatchNorm counts the samples of all processes. Norms in evaluation mode, and norms without running
      statistics, are left out.
    - Some image-to-image models train with one image on purpose (batch norm as instance norm), and keep training mode
      for testing. Waive it there.

    ## How to fix

    ```python
    self.norm = nn.GroupNorm(8, 64)                                  # instead of nn.BatchNorm2d(64)
    loader = DataLoader(data, batch_size=16, shuffle=True, drop_last=True)
    ```
    """
    seen = [layer for layer in norms.layers if layer.tracked]
    if not seen:
        raise NotApplicable("no batch norm with running statistics used the statistics of its batch in training")
    last = _last_batch(program, seen)
    small = [layer for layer in seen if 0 < layer.rows * max(1, layer.processes) < limits.min_samples]
    if not small:
        rows = min(layer.rows for layer in seen)
        yield Measured(float(rows), float(limits.min_samples), f"{count(rows, 'sample')} in a training batch")
        if last is not None:
            yield _last(last, limits)
        return
    judged = [layer for layer in small if layer.calls >= limits.min_calls and _noise(layer) is not None]
    if not judged:
        raise Inconclusive(
            f"batches of {count(small[0].rows, 'sample')}; needs {count(limits.min_calls, 'training call')} to measure "
            f"the noise, saw {max(layer.calls for layer in small)}"
        )
    worst = max(judged, key=lambda layer: _noise(layer) or 0.0)
    level = _noise(worst) or 0.0
    yield Measured(level, limits.max_noise, _story(worst))
    if level > limits.max_noise:
        noisy = [named(layer.name) for layer in judged if (_noise(layer) or 0.0) > limits.max_noise]
        yield Finding(
            message=f"{listing(noisy, 3)} normalize over {count(worst.rows, 'sample')}: {_story(worst)}",
            where=worst.name,
            location=worst.location,
            measured=level,
            limit=limits.max_noise,
            detail=(f"one channel's statistics come from {count(worst.values, 'value')}",),
        )


def _noise(layer: BatchNorm) -> float | None:
    return layer.noise if layer.noise is not None and math.isfinite(layer.noise) and layer.noise >= 0 else None


def _story(layer: BatchNorm) -> str:
    spread = number(math.sqrt(_noise(layer) or 0.0))
    return f"the mean of a channel in {named(layer.name)} varies between batches by {spread} standard deviations"


def _last_batch(program: Program | None, layers: list[BatchNorm]) -> tuple[Loader, BatchNorm] | None:
    """A training loader that ends with one sample, and a norm that gets its batches with one value a sample."""
    for loader in program.loaders if program is not None else ():
        plain = loader.sampler in ("RandomSampler", "SequentialSampler") and not loader.drop_last
        if loader.role != "training" or not plain or not loader.samples or not loader.batch_size:
            continue
        if loader.batch_size < 2 or loader.samples % loader.batch_size != 1 or loader.samples < loader.batch_size:
            continue
        for layer in layers:
            if layer.rows == layer.values == loader.batch_size and layer.processes == 1:
                return loader, layer
    return None


def _last(found: tuple[Loader, BatchNorm], limits: Limits) -> Finding:
    loader, layer = found
    return Finding(
        message=(
            f"the last batch of {loader.name} holds one sample ({loader.samples} in batches of {loader.batch_size}), "
            f"for which {named(layer.name)} ({layer.kind}) raises an error in training"
        ),
        where=loader.name,
        location=loader.location or layer.location,
        measured=1.0,
        limit=float(limits.min_samples),
        remedies=(),
        fix="Drop the incomplete batch: `DataLoader(data, batch_size=16, shuffle=True, drop_last=True)`.",
    )
