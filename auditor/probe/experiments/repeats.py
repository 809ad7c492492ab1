"""The first steps twice, from the same weights on the same batches with the same random numbers: equal bit for bit?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import xxhash

from auditor.evidence import StepRepeats
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.replay import Experiment, NotRun, Replay
from auditor.probe.runfacts import device_of

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

STEPS = 3
REPLAYS = 2
MOST_BYTES = 64 * 2**20  # of gradients that are fingerprinted in one step


def step_repeats(probe: Probe) -> Experiment:
    require_rewindable(probe)
    steps = min(STEPS, probe.observed)
    losses: list[tuple[float, ...]] = []
    prints: list[str] = []
    for _ in range(REPLAYS):
        digest = xxhash.xxh3_128()

        def look(step: int, parameters: list[torch.Tensor], digest: xxhash.xxh3_128 = digest) -> None:
            _take_in(digest, parameters)

        trail = yield Replay(
            steps=steps, label="repeat the first steps", fewest=steps, order=order(probe), at_update=look
        )
        trail.require(steps)
        if len(trail.losses) < steps:
            raise NotRun("the replayed steps did not come to their end")
        losses.append(tuple(trail.losses))
        prints.append(digest.hexdigest())
    return StepRepeats(
        steps=steps,
        losses=tuple(losses),
        gradient_prints=tuple(prints),
        device=device_of(probe),
        deterministic=torch.are_deterministic_algorithms_enabled(),
        threads=torch.get_num_threads(),
        location=probe.loss_facts().location or probe.collectors.find("program").part().loss_location,
    )


def _take_in(digest: xxhash.xxh3_128, parameters: list[torch.Tensor]) -> None:
    size = 0
    for parameter in parameters:
        grad = parameter.grad
        if grad is None or grad.layout != torch.strided:
            continue
        size += grad.numel() * grad.element_size()
        if size > MOST_BYTES:
            return
        digest.update(memoryview(grad.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))  # type: ignore[arg-type]
