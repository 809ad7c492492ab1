"""Exponential learning-rate sweep from the initial weights (Smith, 2017, arXiv:1506.01186)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from auditor.evidence import RateSweep
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.replay import Experiment, NotRun, Replay

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

STEPS = 100
FEWEST = 40
BELOW = 1e-3  # of the user's rate, at the first step
ABOVE = 1e3  # of the user's rate, at the last
SMOOTHING = 0.8  # exponential moving average, bias-corrected
DIVERGED = 4.0  # times the range between the first and the best smoothed loss


def rate_sweep(probe: Probe) -> Experiment:
    require_rewindable(probe)
    if probe.manual():
        raise NotRun("the weights are updated without a torch optimizer, whose rate could be swept")
    user = probe.reference_rate()
    if not user > 0:
        raise NotRun(f"the learning rate in force is {user:g}")
    steps = max(FEWEST, min(STEPS, probe.director.affordable_steps()))
    growth = (ABOVE / BELOW) ** (1 / (steps - 1))
    trail = yield Replay(
        steps=steps,
        label="sweep",
        fewest=FEWEST,
        order=order(probe),
        rate=lambda step: BELOW * growth**step,
        peak_rate=True,
        stop=_diverged,
    )
    trail.require(FEWEST)
    smoothed = smooth(trail.losses)
    record = probe.program.stepped()[0]
    rates = trail.rates[: len(trail.losses)]
    return RateSweep(
        rates=tuple(rates),
        losses=tuple(trail.losses),
        smoothed=tuple(smoothed),
        user_rate=user,
        suggested=suggest(rates, smoothed),
        diverged_at=next(
            (rate for rate, i in zip(rates, range(len(rates)), strict=False) if _diverged(trail.losses[: i + 1])), None
        ),
        optimizer=type(record.optimizer).__name__,
        location=record.location,
    )


def smooth(losses: list[float]) -> list[float]:
    """Bias-corrected exponential moving average; a non-finite loss makes everything after it infinite."""
    average, result = 0.0, []
    for step, loss in enumerate(losses, 1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss if math.isfinite(loss) else math.inf
        result.append(average / (1 - SMOOTHING**step))
    return result


def _diverged(losses: list[float]) -> bool:
    """The smoothed loss rose above the start by several times of what it had fallen, or is not finite."""
    smoothed = smooth(losses)
    if not math.isfinite(smoothed[-1]):
        return True
    if len(losses) < 10:
        return False
    noise = max(losses[:10]) - min(losses[:10])
    start, best = smoothed[9], min(smoothed)
    return smoothed[-1] > start + DIVERGED * max(start - best, noise, 0.05 * abs(start))


def suggest(rates: list[float], smoothed: list[float]) -> float | None:
    """Rate of the steepest fall per decade, before the lowest smoothed loss; None when the loss never fell clearly."""
    finite = [index for index, loss in enumerate(smoothed) if math.isfinite(loss)]
    if len(finite) < 15:
        return None
    lowest = min(finite, key=lambda index: smoothed[index])
    start = smoothed[min(9, finite[-1])]
    if start - smoothed[lowest] < 0.02 * abs(start):
        return None
    width = 5
    slopes = [
        (smoothed[index + width] - smoothed[index], rates[index + width // 2])
        for index in range(5, max(6, lowest - width + 1))
        if index + width < len(smoothed)
    ]
    return min(slopes)[1] if slopes else None
