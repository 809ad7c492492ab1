"""One parameter for an embedding and the output layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditor.evidence import Remedy
from auditor.probe.remedies.treatment import Treatment
from auditor.probe.replay import NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe


def tie_weights(probe: Probe, remedy: Remedy) -> Treatment:
    """Of the two `layers`, the embedding first: the output layer takes its weight, as `head.weight = embed.weight`."""
    names = probe.program.module_names()
    modules = [module for _, model in probe.program.models() for module in model.modules()]
    found = [next((m for m in modules if names.get(id(m)) == name), None) for name in remedy.layers]
    pair = [module for module in found if module is not None]
    if len(pair) != 2 or any("weight" not in module._parameters for module in pair):
        raise NotRun("the embedding and the output layer were not found, or keep no weight of their own")
    embedding, head = pair
    shared, own = embedding._parameters["weight"], head._parameters["weight"]
    if shared is None or own is None or shared is own or shared.shape != own.shape:
        raise NotRun("the two weights are one already, or of different shapes")
    optimized = {id(p) for record in probe.program.optimizers for p in record.parameters}
    if id(shared) not in optimized:
        raise NotRun("the weight of the embedding is in no optimizer")

    def prepare() -> None:
        head._parameters["weight"] = shared

    def undo() -> None:
        head._parameters["weight"] = own

    return Treatment({"prepare": prepare, "undo": undo})
