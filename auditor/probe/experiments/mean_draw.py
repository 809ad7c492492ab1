"""A model that draws normal noise in evaluation mode: what its held-out loss is with the mean of what it draws."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import torch

from auditor.evidence import EvaluationNoise, MeanDraw, PairedReplay
from auditor.probe.callchange import ChangedCalls
from auditor.probe.experiments.feasible import order
from auditor.probe.heldlosses import HeldLoss
from auditor.probe.replay import Replay, Trail

if TYPE_CHECKING:
    from auditor.probe.examination import Examination
    from auditor.probe.probe import Probe

NORMAL = frozenset({"randn", "randn_like", "normal", "normal_"})
AFTER = (40, 120, 480)  # steps of training; the last that the loop comes to counts
SEEDS = tuple(range(70_003, 70_011))
GROUPS = 32  # of samples, whose mean losses are compared


def mean_draw(probe: Probe, noise: EvaluationNoise) -> Generator[Replay, Trail, MeanDraw | None]:
    """None where something else is drawn, or no held-out loss was seen that is worked out from the model's outputs."""
    modes = probe.collectors.find("modes")
    held = modes.held.latest if modes is not None else None
    normal = bool(noise.draws) and all(draw.operation in NORMAL and not draw.dropout for draw in noise.draws)
    steps = max((each for each in AFTER if 2 * each <= probe.director.affordable_steps()), default=0)
    if held is None or not normal or not noise.repeats or not noise.difference > 0 or not steps:
        return None
    found: list[MeanDraw] = []

    def look(examination: Examination, step: int) -> None:
        if step + 1 in AFTER and id(examination.module) == held.module:
            found.append(_measured(examination, held, step + 1))

    yield Replay(steps=steps, label="mean of what is drawn", order=order(probe), examine=look)
    return found[-1] if found else None


def _measured(examination: Examination, held: HeldLoss, steps: int) -> MeanDraw:
    drawn = torch.stack([_losses(examination, held, seed) for seed in SEEDS]).mean(0)
    with ChangedCalls(without_noise, None):
        still = _losses(examination, held, SEEDS[0])
    groups = min(GROUPS, len(drawn))
    control, treated = (
        tuple(float(group.mean()) for group in torch.tensor_split(each, groups)) for each in (drawn, still)
    )
    return MeanDraw(
        steps=steps,
        samples=len(drawn),
        drawn=float(drawn.mean()),
        mean=float(still.mean()),
        groups=PairedReplay(start="later", control=control, treated=treated),
    )


def _losses(examination: Examination, held: HeldLoss, seed: int) -> torch.Tensor:
    return held.of_samples(examination.outputs(held.args, held.kwargs, seed=seed))


def without_noise(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The mean in the place of a normal draw."""
    if name not in NORMAL:
        return NotImplemented
    result = function(*args, **kwargs)
    if name in ("randn", "randn_like"):
        return torch.zeros_like(result)
    mean = kwargs.get("mean", args[0] if name == "normal" and args else args[1] if len(args) > 1 else 0.0)
    with torch.no_grad():
        return result.copy_(torch.as_tensor(mean).to(result).expand_as(result))
