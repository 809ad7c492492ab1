"""EFF101: a good part of every step is spent waiting for the next batch."""

from __future__ import annotations

from pydantic import Field

from auditor.declare import (
    Confidence,
    Finding,
    Inconclusive,
    Judgement,
    Measured,
    NotApplicable,
    Options,
    Severity,
    rule,
)
from auditor.evidence import DataWait, FedFromMemory
from auditor.series import finite, middle

from ..words import count, number, percent


class Limits(Options):
    max_share: float = Field(0.3, gt=0, lt=1, description="Largest share of a step that may be spent waiting for data.")
    min_cost: float = Field(
        60.0, gt=0, description="Seconds that the waiting has to cost over all planned epochs (ten where unknown)."
    )
    min_step: float = Field(0.002, gt=0, description="Seconds per step below which the model is too small to judge.")
    min_steps: int = Field(12, ge=5, description="Steps that have to be timed, after the first ones.")


EPOCHS = 10  # assumed where the source does not tell how many are planned
WARM_UP = 3  # steps, in which workers start and caches fill


@rule(
    "EFF101",
    "data-bound",
    severity=Severity.WARNING,
    fix="""Load in other processes, `DataLoader(..., num_workers=4, persistent_workers=True, pin_memory=True)`, or do
    once, before training, what every sample goes through in every epoch.""",
    references=(
        "https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html",
        "https://docs.pytorch.org/docs/stable/data.html#multi-process-data-loading",
    ),
)
def data_bound(wait: DataWait, memory: FedFromMemory | None, limits: Limits) -> Judgement:
    """The loop waits for its data: the next batch is not there when the model is ready for it.

    ## What it does

    Measures, in every step, how long the loop waits in the training loader's `__next__`, and how long the step takes.

    ## Why is it bad?

    While the loop waits, the device computes nothing. A third of every step is a third of the whole training time and
    of what it costs, and a faster device would not help at all.

    ## How it is measured

    By the median share of a step that is spent waiting, the first steps and the probe's own work left out. It fails
    above `max-share`, over at least `min-steps` steps of at least `min-step` seconds, if the waiting adds up to
    `min-cost` seconds over the epochs that the source plans (the length of the loader times the `range()` around the
    loop; ten epochs where it does not tell). The experiment confirms it: the loop is replayed with its recorded
    batches handed out from memory, and its steps get shorter by at least that share. If they hardly do, the wait only
    overlaps with work of the device, and the rule passes.

    ## When it may be wrong

    - Steps of a tiny model on in-memory tensors take a millisecond or two, most of it in the loader's own Python.
      Nothing is gained there: they are not judged, nor is a training that waits for less than a minute in all.
    - A cold file cache makes the first epoch slower than those that follow.
    - A machine that is busy with other things starves workers first. Without the experiment it is a suspicion only.

    ## How to fix

    ```python
    loader = DataLoader(
        dataset, batch_size=64, shuffle=True, num_workers=4, persistent_workers=True, pin_memory=True
    )
    ```
    """
    pairs = [(w, s) for w, s in zip(wait.waits, wait.seconds, strict=False) if s > 0 and w >= 0]
    pairs = [(w, s) for w, s in pairs[WARM_UP:] if finite([w]) and finite([s])]
    if len(pairs) < limits.min_steps:
        raise Inconclusive(f"needs {limits.min_steps} timed steps, saw {len(pairs)}")
    step, waited = middle([s for _, s in pairs]), middle([w for w, _ in pairs])
    share = min(1.0, middle([w / s for w, s in pairs]))
    if step < limits.min_step:
        raise NotApplicable(f"a step takes {number(1000 * step)} ms: the model is too small for the loading to matter")
    account = f"{percent(share)} of a step of {number(1000 * step)} ms is spent waiting for the next batch"
    saved = _saved(step, memory)
    if saved is not None:
        account += f"; with batches from memory it is {percent(max(0.0, saved))} shorter"
    yield Measured(share, limits.max_share, account)
    if share <= limits.max_share or (saved is not None and saved < limits.max_share / 2):
        return
    cost = _cost(waited, wait)
    if cost is None:
        raise Inconclusive(f"{account}; the loader has no length, so it is not known what that costs")
    if cost < limits.min_cost:
        yield Measured(share, limits.max_share, f"{account}, {_time(cost)} over the whole training")
        return
    sure = saved is not None and saved >= limits.max_share
    yield Finding(
        message=(
            f"{percent(share)} of a step is spent waiting for {wait.loader or 'the loader'}: {number(1000 * waited)} "
            f"of {number(1000 * step)} ms, with {count(wait.workers, 'worker')}"
        ),
        where=wait.loader,
        location=wait.location,
        measured=share,
        limit=limits.max_share,
        confidence=Confidence.CONFIRMED if sure else Confidence.SUSPECTED,
        detail=tuple(_details(wait, memory, waited, step, saved)),
    )


def _cost(waited: float, wait: DataWait) -> float | None:
    """Seconds of waiting in the whole training."""
    return waited * wait.batches * (wait.epochs or EPOCHS) if wait.batches else None


def _saved(step: float, memory: FedFromMemory | None) -> float | None:
    """Share of the step that goes away when nothing has to be loaded."""
    if memory is None:
        return None
    took = finite(memory.seconds)
    return 1 - middle(took) / step if len(took) >= 5 and step > 0 else None


def _details(
    wait: DataWait, memory: FedFromMemory | None, waited: float, step: float, saved: float | None
) -> list[str]:
    detail = []
    if memory is not None and saved is not None:
        detail.append(
            f"replayed with its batches from memory, a step takes {number(1000 * middle(memory.seconds))} ms instead "
            f"of {number(1000 * step)} ms"
        )
    if wait.batches:
        detail.append(f"one epoch of {count(wait.batches, 'batch')} waits {_time(waited * wait.batches)}")
        if wait.epochs:
            whole = _time(waited * wait.batches * wait.epochs)
            detail.append(f"the {wait.epochs} epochs that the source plans wait {whole}")
    return detail


def _time(seconds: float) -> str:
    if seconds >= 3600:
        return f"{number(seconds / 3600)} hours"
    return f"{number(seconds / 60)} minutes" if seconds >= 60 else f"{number(seconds)} seconds"
