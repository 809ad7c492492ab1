"""Calls that seed the global random number generators."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import torch

from auditor.probe.probe import Probe
from auditor.probe.taps.patching import replace, wrap


def install(probe: Probe) -> None:
    wrap(torch.random, "manual_seed", lambda original: _seed(probe, "torch", original))
    replace(torch, "manual_seed", torch.random.manual_seed)
    wrap(random, "seed", lambda original: _seed(probe, "random", original))
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        wrap(numpy, "seed", lambda original: _seed(probe, "numpy", original))
    probe.seeds.start()


def _seed(probe: Probe, generator: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def seed(*args: Any, **kwargs: Any) -> Any:
        if probe.alive():
            probe.seeds.seeded(generator, fixed=bool(args or kwargs) and args[:1] != (None,))
        return original(*args, **kwargs)

    return seed
