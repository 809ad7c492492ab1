"""Weights that began at zero and never had a gradient: has the loss none for them, or is zero a place without slope?

Where only products of such weights reach the loss, the gradient of each is a multiple of the other ones, and none of
them ever leaves zero. Away from it they have a gradient. A weight that the loss does not depend on has none anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn

from auditor.evidence import Location, ZeroStart, ZeroStarts
from auditor.probe.experiments.feasible import order, require_rewindable
from auditor.probe.replay import Experiment, NotRun, Replay

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

SIZE = 0.1  # standard deviation of the numbers from which they start instead
SEED = 50_021


def zero_starts(probe: Probe) -> Experiment:
    waiting = list(resting(probe))
    if not waiting:
        raise NotRun("no weight began at zero and stayed there without a gradient", "not-applicable")
    require_rewindable(probe, unfed=True)
    woken: set[int] = set()

    def scatter() -> None:
        generator = torch.Generator().manual_seed(SEED)
        with torch.no_grad():
            for parameter in waiting:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.data.copy_((SIZE * noise).to(parameter))

    def listen(step: int, parameters: list[torch.Tensor]) -> None:
        for parameter in waiting:
            gradient = parameter.grad
            if gradient is not None and gradient.layout == torch.strided and bool((gradient != 0).any()):
                woken.add(id(parameter))

    # Terms of the loss that are made of weights alone are off: they pull at every weight that is not zero.
    trail = yield Replay(
        steps=1, label="away from zero", order=order(probe), prepare=scatter, at_update=listen, penalty=False
    )
    trail.require(1)
    layers = probe.program.parameter_layers()
    return ZeroStarts(
        steps=probe.observed,
        weights=tuple(
            ZeroStart(
                name=_name(layers.get(id(parameter)), place),
                location=_location(probe, layers.get(id(parameter))),
                shape=tuple(parameter.shape),
                woken=id(parameter) in woken,
            )
            for place, parameter in enumerate(waiting)
        ),
        fidelity=probe.fidelity,
    )


def resting(probe: Probe) -> Iterator[torch.Tensor]:
    """Weights, all zeros from first to last, that no gradient other than zero reached at any update. None where another
    weight that began at zero had a gradient and did not move: its rate may be the reason."""
    symmetry, gradients = probe.collectors.find("symmetry"), probe.collectors.find("gradients")
    if symmetry is None or gradients is None:
        return
    graded = gradients.reached()
    if not graded or any(key in graded and not moved for key, moved in symmetry.moved.items()):
        return
    for parameter in probe.program.trained_parameters():
        if symmetry.moved.get(id(parameter)) is False:
            yield parameter


Owner = tuple[str, nn.Module, str]


def _name(owner: Owner | None, place: int) -> str:
    if owner is None:
        return f"parameter {place}"
    return owner[0] if owner[2] == "weight" else f"{owner[0]}.{owner[2]}"


def _location(probe: Probe, owner: Owner | None) -> Location | None:
    if owner is not None:
        return probe.program.location_of(owner[1])
    return next((record.location for record in probe.program.stepped()), None)
