"""Learn a few batches by heart, with their own labels and with the labels shuffled among the samples of each batch.

Networks learn labels that belong to their inputs faster than random ones, long before they generalise
(Zhang et al. 2017, arXiv 1611.03530; Arpit et al. 2017, arXiv 1706.05394).

A model that is unable to tell the samples apart but by heart fits them no faster either. So simple statistics of the
inputs are asked first: where they differ between the classes, the labels do belong to their inputs.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import torch

from auditor.evidence import LabelControl, Overfit
from auditor.probe.batches import tensors
from auditor.probe.dependence import dependence
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.experiments.paired import end_level, hopeless
from auditor.probe.losscall import LossCall
from auditor.probe.replay import Experiment, InputChange, NotRun, Replay, Trail

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

STEPS = 500
FEWEST = 60
SAMPLES = 512  # learned by heart, of as many batches as that takes
SHUFFLES = 8
KNOWN_BY_HEART = 0.4  # of the first loss: then the arm with the true labels ends, and the others get as many steps
ASKED = 16_384  # samples whose statistics are compared between the classes, where as many were recorded
DEPENDS = 6.0  # standard deviations above what permuted labels give: the labels belong to their inputs
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
    yield from _require_no_dependence(probe, rows)
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
        if arms and len(trail.losses) < len(arms[0]) and trail.ended != "stopped":
            break  # its mean would be that of a shorter way
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


def _require_no_dependence(probe: Probe, rows: int) -> Generator[Replay, Trail, None]:
    """Raises NotRun where simple statistics of the inputs differ between the classes. Nothing is learned for that."""
    given: list[tuple[torch.Tensor, ...]] = []
    labels: list[torch.Tensor] = []

    def keep_inputs(args: Any, kwargs: Any) -> tuple[Any, Any]:
        if len(given) == len(labels):
            given.append(tuple(each.detach().clone() for each in tensors((args, kwargs)) if each.dim()))
        return args, kwargs

    def keep_labels(call: LossCall, step: int) -> None:
        if len(labels) < len(given):
            labels.append(call.target.detach().reshape(-1).cpu())

    recorded = order(probe)
    yield Replay(
        steps=max(1, min(probe.observed - probe.first_recorded, math.ceil(ASKED / rows))),
        label="inputs and labels",
        order=recorded,
        call_change=keep_inputs,
        hear_loss=keep_labels,
        rate=lambda step: 0.0,
    )
    found = _dependence(given, labels)
    if found > DEPENDS:
        raise NotRun(
            f"the labels do follow from the inputs: simple statistics of them lie {found:.3g} standard deviations "
            "further apart between the classes than with permuted labels",
            "not-applicable",
        )


def _dependence(given: list[tuple[torch.Tensor, ...]], labels: list[torch.Tensor]) -> float:
    pairs = [
        (inputs, known)
        for inputs, known in zip(given, labels, strict=False)
        if all(len(each) == len(known) for each in inputs)
    ]
    shapes = {tuple((each.shape[1:], each.dtype) for each in inputs) for inputs, _ in pairs}
    if len(shapes) != 1 or not next(iter(shapes)):
        return 0.0
    tables = [torch.cat(column) for column in zip(*(inputs for inputs, _ in pairs), strict=True)]
    return dependence(tables, torch.cat([known for _, known in pairs]).long())


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
