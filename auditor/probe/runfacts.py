"""Facts about the run as a whole, for `evidence.Run`."""

from __future__ import annotations

import platform
import statistics
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from auditor.probe.probe import Probe


def describe_run(probe: Probe, finished: bool) -> None:
    """Send what the child knows of `Run`. May be sent again; later records replace earlier ones."""
    seconds = probe.step_clock.seconds
    own = probe.step_clock.own
    plain = [max(0.0, whole - ours) for whole, ours in zip(seconds, own, strict=True)]
    overhead = sum(seconds) / sum(plain) if sum(plain) > 0 and len(plain) >= 3 else None
    probe.sink.write(
        "run",
        steps=probe.observed,
        step_seconds=round(statistics.median(plain), 6) if plain else None,
        overhead=round(overhead, 4) if overhead is not None else None,
        device=device_of(probe),
        torch=str(torch.__version__),
        python=platform.python_version(),
        seed=probe.spec.seed,
        notes=list(dict.fromkeys([*probe.notes, *(probe.diversion.facts() if probe.diversion else ())])),
        finished=finished,
    )


def device_of(probe: Probe) -> str:
    """Where the trained parameters live, e.g. 'cuda:0 (NVIDIA H200)'."""
    for parameter in probe.program.trained_parameters():
        if parameter.device.type == "cuda":
            return f"{parameter.device} ({torch.cuda.get_device_name(parameter.device)})"
        return str(parameter.device)
    return "cpu"
