"""What the mode of the model changes, in its outputs and its loss, and whether evaluation mode repeats itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from auditor.evidence import EvaluationNoise, ModeEffect
from auditor.probe.draws import DrawWatch, describe
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.experiments.mean_draw import mean_draw
from auditor.probe.randomness import RandomState, reseed
from auditor.probe.replay import Experiment, NotRun, Replay

if TYPE_CHECKING:
    from auditor.probe.examination import Examination
    from auditor.probe.probe import Probe

STEPS = 20  # of training before the modes are compared, so that running statistics have something to say
SEEDS = (70_001, 70_002)


def mode_effect(probe: Probe) -> Experiment:
    """The same steps twice, all in training mode but, the second time, the last."""
    require_rewindable(probe)
    modes = probe.collectors.find("modes")
    if modes is None or not modes.suspicious():
        raise NotRun("every model is in the mode that fits what it is used for", "not-applicable")
    steps = max(1, min(STEPS, probe.observed, probe.director.affordable_steps() // 2))
    seen: list[tuple[float, float | None]] = []

    def look(examination: Examination, step: int) -> None:
        if step == steps - 1:
            seen.append(compare_outputs(examination.outputs(training=True), examination.outputs(training=False)))

    losses: list[float] = []
    for last in (True, False):
        trail = yield Replay(
            steps=steps,
            label="both modes",
            order=order(probe),
            mode=lambda step, last=last: step < steps - 1 or last,  # type: ignore[misc]
            examine=look if last else None,
        )
        trail.require(steps)
        if trail.trouble:
            raise NotRun(f"the model cannot be called beside the loop: {trail.trouble}")
        if len(trail.losses) < steps:
            raise NotRun("no time was left to compare the modes; allow more with --max-time")
        losses.append(trail.losses[-1])
    if not seen:
        raise NotRun("the model was not called where the modes were to be compared")
    change, decisions = seen[0]
    return ModeEffect(
        steps=steps,
        output_change=change,
        decisions_changed=decisions,
        training_loss=losses[0],
        evaluation_loss=losses[1],
        fidelity=probe.fidelity,
    )


def evaluation_noise(probe: Probe) -> Experiment:
    """One batch in evaluation mode with seeds a, b and a again; where they differ, which operations draw."""
    require_rewindable(probe)
    parts: list[EvaluationNoise] = []

    def look(examination: Examination, step: int) -> None:
        first, other, again = (examination.outputs(seed=seed) for seed in (*SEEDS, SEEDS[0]))
        difference, _ = compare_outputs(first, other)
        repeats = all(torch.equal(a, b) or _both_nan(a, b) for a, b in zip(first, again, strict=True))
        watch = DrawWatch(probe)
        if difference != 0 or not repeats:
            noise = RandomState.capture()
            reseed(SEEDS[0])  # as the examination does, so that its doing so is no draw
            with watch:
                examination.outputs(seed=SEEDS[0])
            noise.restore()
        parts.append(
            EvaluationNoise(
                difference=difference,
                repeats=repeats and len(first) == len(again),
                draws=tuple(describe(draw, probe, watch.masks) for draw in watch.draws),
                fidelity=probe.fidelity,
            )
        )

    trail = yield Replay(steps=1, label="evaluation mode twice", order=order(probe), examine=look)
    trail.require(1)
    if trail.trouble:
        raise NotRun(f"the model cannot be called in evaluation mode: {trail.trouble}")
    if not parts:
        raise NotRun("the model was not called in the replayed step")
    measured = yield from mean_draw(probe, parts[0])
    return parts[0].model_copy(update={"mean_draw": measured})


def compare_outputs(one: list[torch.Tensor], other: list[torch.Tensor]) -> tuple[float, float | None]:
    """(RMS difference over the spread of `one`, share of rows with another largest value). Over all tensors that both
    have in the same shape; a model that returns something else in the other mode is compared by what it shares."""
    pairs = [(a.double(), b.double()) for a, b in zip(one, other, strict=False) if a.shape == b.shape and a.numel()]
    if not pairs:
        raise ValueError("the outputs of the two passes cannot be compared: their shapes differ")
    squares = sum(float((a - b).square().sum()) for a, b in pairs)
    spread = sum(float((a - a.mean()).square().sum()) for a, _ in pairs)
    size = sum(float(a.square().sum()) for a, _ in pairs)
    scale = spread or size
    change = math.sqrt(squares / scale) if scale > 0 else float(squares > 0)
    first, second = pairs[0]
    if first.dim() < 2 or first.shape[-1] < 2:
        return change, None
    return change, float((first.argmax(-1) != second.argmax(-1)).double().mean())


def _both_nan(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())
