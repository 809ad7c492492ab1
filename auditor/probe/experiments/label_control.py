"""Learn a few batches by heart, with their own labels and with the labels shuffled among the samples of each batch.

Networks learn labels that belong to their inputs faster than random ones, long before they generalise
(Zhang et al. 2017, arXiv 1611.03530; Arpit et al. 2017, arXiv 1706.05394).
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

import torch

from auditor.evidence import LabelControl, Overfit
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.experiments.paired import end_level, hopeless
from auditor.probe.replay import Experiment, InputChange, NotRun, Replay

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

STEPS = 500
FEWEST = 60
SAMPLES = 512  # learned by heart, of as many batches as that takes
SHUFFLES = 8
KNOWN_BY_HEART = 0.4  # of the first loss: then the arm with the true labels ends, and the others get as many steps
LEARNED = 0.95  # of the level that a constant answer has: below it, the labels have been of use


def label_control(probe: Probe) -> Experiment:
    labels = probe.collectors.find("labels")
    level = labels.constant_level() if labels is not None else None
    if level is None:
        raise NotRun("no loss with one class label a sample was called", "not-applicable")
    end = end_level(probe.observed_losses())
    if not math.isfinite(end):
        raise NotRun("the loss is not finite")
    if end < LEARNED * level:
        raise NotRun(
            f"the loss fell to {end:.3g}, below the {level:.3g} of an answer that knows the labels' shares alone",
            "not-applicable",
        )
    overfit = probe.director.answers.get("overfit")
    if isinstance(overfit, Overfit) and not any(arm.reached for arm in overfit.arms):
        raise NotRun("a few samples cannot be learned by heart at any rate tried: what prevents that comes first")
    require_rewindable(probe)
    if not probe.loss_facts().covers_loss() or probe.loss_facts().in_model():
        raise NotRun("the loss is more than a loss function on the labels, which could be shuffled")
    rows = probe.feed.batch_size() or 1
    if rows < 4:
        raise NotRun("the batches are too small to shuffle their labels")
    batches = max(1, min(probe.observed - probe.first_recorded, math.ceil(SAMPLES / rows)))
    recorded = order(probe)
    arms: list[tuple[float, ...]] = []
    steps = max(FEWEST, min(STEPS, probe.director.affordable_steps() // (SHUFFLES + 1)))
    for shuffle in range(SHUFFLES + 1):
        trail = yield Replay(
            steps=steps,
            label=f"labels shuffled, {shuffle} of {SHUFFLES}" if shuffle else "labels as they are",
            fewest=FEWEST,
            order=lambda step: recorded(step % batches),
            target_change=shuffled(shuffle) if shuffle else None,
            peak_rate=True,
            dropout=False,
            weight_decay=False,
            seed=0,
            stop=hopeless if shuffle else lambda losses: hopeless(losses) or _known(losses, batches),
        )
        trail.require(FEWEST)
        arms.append(tuple(trail.losses))
        steps = len(arms[0])
    return LabelControl(
        real=arms[0],
        shuffled=tuple(arms[1:]),
        samples=batches * rows,
        level=level,
        observed=end,
        fidelity=probe.fidelity,
        location=probe.loss_facts().location,
    )


def shuffled(number: int) -> InputChange:
    """Permutes the rows, the same way whenever the same labels come again."""

    def change(target: torch.Tensor) -> torch.Tensor:
        if not target.dim() or target.shape[0] < 2:
            return target
        weights = torch.arange(1, target.shape[0] + 1, dtype=torch.float64)
        key = int((target.detach().reshape(target.shape[0], -1)[:, 0].double().cpu() * weights).sum())
        generator = torch.Generator().manual_seed((1_000_003 * number + key) % 2**31)
        return target[torch.randperm(target.shape[0], generator=generator).to(target.device)]

    return change


def _known(losses: list[float], batches: int) -> bool:
    return len(losses) >= FEWEST and statistics.median(losses[-max(batches, 8) :]) < KNOWN_BY_HEART * losses[0]
