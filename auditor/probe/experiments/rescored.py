"""A held-out loss with and without the samples that training knows: after some replayed steps the weights are held, and
the loop is fed held-out samples, by its own forward and its own loss."""

from __future__ import annotations

import math
import statistics
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from auditor.evidence import PairedReplay
from auditor.probe.batches import map_tensors
from auditor.probe.contamination import Contamination
from auditor.probe.experiments.feasible import order
from auditor.probe.experiments.paired import ARRANGEMENTS, Start, hopeless
from auditor.probe.replay import NotRun, Replay, Trail

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

TRAINED, FEWEST_TRAINED = 480, 60  # steps before the weights are held
PAIRS = 24


def rescored(probe: Probe, found: Contamination, start: Start) -> Generator[Replay, Trail, list[PairedReplay]]:
    """Up to two looks, the second after other random numbers and with the batches in reverse.

    `control`: for each pair of batches, how much lower the mean loss of all samples is than that of the unknown ones,
    as a share of the latter; `treated`, without the known ones, is 0. Raises NotRun where it cannot be measured.
    """
    size = _require(probe, found)
    rows = min(_room(probe, size), len(found.known) // PAIRS, len(found.others) // PAIRS)
    held = [batch for pair in found.batches(probe, rows, PAIRS) for batch in pair]
    trained = max(FEWEST_TRAINED, min(TRAINED, probe.director.affordable_steps() // 2 - len(held)))
    request = Replay(
        steps=trained + len(held),
        label="on held-out samples",
        fewest=FEWEST_TRAINED + len(held),
        rate=lambda step: 1.0 if step < trained else 0.0,
        mode=lambda step: step < trained,
        batch_change=lambda batch, step: (
            batch if step < trained else _filled(held[min(step - trained, len(held) - 1)], size)
        ),
        stop=hopeless,
        **start.interventions,
    )
    looks: list[PairedReplay] = []
    for seed, backwards in ARRANGEMENTS:
        if looks and probe.director.affordable_steps() < request.steps:
            break
        trail = yield replace(request, order=order(probe, backwards=backwards), seed=seed)
        if not looks:
            trail.require(request.steps)
        errors = _errors(trail.losses[trained:], found.share)
        if not errors:
            break
        looks.append(PairedReplay(start="later", control=errors, treated=(0.0,) * len(errors), seed_offset=seed or 0))
        if statistics.median(errors) <= 0:
            break
    if not looks:
        raise NotRun("the losses of held-out samples are not positive numbers, which could be related to each other")
    return looks


def _require(probe: Probe, found: Contamination) -> int:
    """The batch size."""
    if probe.manual():
        raise NotRun("the weights are updated without a torch optimizer, whose steps could be left out")
    size = probe.feed.batch_size() if probe.feed.has_loader else None
    if size is None or len(probe.feed.by_loader) != 1:
        raise NotRun(
            "the loop is not fed by one DataLoader alone, whose batches held-out samples could take the place of"
        )
    if len(found.others) < PAIRS:
        left = f"without the samples concerned, {len(found.others)} of {found.held_out.name} are left"
        raise NotRun(f"{left}, and it needs {PAIRS}")
    if len(found.known) < PAIRS:
        raise NotRun(f"{len(found.known)} samples of {found.held_out.name} are concerned, and it needs {PAIRS}")
    return size


def _room(probe: Probe, size: int) -> int:
    """Rows of a batch, up to its size, of which all pairs stay within the memory that batches may take."""
    allowed = probe.spec.batch_memory * 2**20
    return max(1, min(size, allowed * size // max(1, 2 * PAIRS * probe.feed.largest)))


def _filled(batch: Any, size: int) -> Any:
    """Its rows over and over, up to the size that the loop is used to: the mean over them is the same."""

    def fill(tensor: torch.Tensor) -> torch.Tensor:
        return tensor[torch.arange(size) % len(tensor)] if tensor.dim() else tensor

    return map_tensors(batch, fill)


def _errors(losses: list[float], share: float) -> tuple[float, ...]:
    """Losses of a known and of an unknown batch take turns; () where they do not say anything."""
    known, others = losses[0::2], losses[1::2]
    if len(others) < PAIRS or not all(math.isfinite(loss) for loss in losses) or statistics.mean(others) <= 0:
        return ()
    return tuple(share * (b - a) / statistics.mean(others) for a, b in zip(known, others, strict=False))
