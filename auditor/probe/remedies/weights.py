"""Remedies of the weights, and of the mode in which they are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from auditor.evidence import Remedy
from auditor.probe.batches import map_tensors
from auditor.probe.experiments.reinitialized import redraw
from auditor.probe.remedies.treatment import Treatment
from auditor.probe.replay import NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

LOW = (torch.float16, torch.bfloat16)


def reinitialize(probe: Probe, remedy: Remedy) -> Treatment:
    collector = probe.collectors.find("forward_scale")
    if collector is None or len(collector.activations) != len(collector.modules):
        raise NotRun("the layers' outputs were not measured")
    names = probe.program.module_names()
    wanted = set(remedy.layers)
    chosen = [module for module in collector.modules if names.get(id(module)) in wanted] if wanted else None
    cells = [cell for cell in collector.recurrent if not wanted or names.get(id(cell)) in wanted]
    cells += [table for table in _tables(probe) if names.get(id(table)) in wanted]
    if not cells and not (collector.modules if chosen is None else chosen):
        raise NotRun("none of these layers is linear, convolutional, recurrent or a table")
    return Treatment({"prepare": redraw(collector, chosen, cells, zeros=bool(wanted))})


def _tables(probe: Probe) -> list[torch.nn.Module]:
    """Embeddings."""
    kinds = (torch.nn.Embedding, torch.nn.EmbeddingBag)
    return [module for _, model in probe.program.models() for module in model.modules() if isinstance(module, kinds)]


def full_precision(probe: Probe, remedy: Remedy) -> Treatment:
    held = [p for p in probe.program.trained_parameters() if p.is_floating_point()]
    held += [buffer for _, model in probe.program.models() for buffer in model.buffers() if buffer.is_floating_point()]
    low = {id(tensor): (tensor, tensor.dtype) for tensor in held if tensor.dtype in LOW}
    if not low:
        raise NotRun("no weight is in low precision")

    def widen() -> None:
        for tensor, _ in low.values():
            tensor.grad = None
            tensor.data = tensor.data.float()

    def narrow() -> None:
        for tensor, dtype in low.values():
            tensor.grad = None
            tensor.data = tensor.data.to(dtype)

    def given(args: Any, kwargs: Any) -> tuple[Any, Any]:
        return map_tensors(args, _widened), map_tensors(kwargs, _widened)

    return Treatment({"prepare": widen, "undo": narrow, "call_change": given})


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in LOW else tensor


def training_mode(probe: Probe, remedy: Remedy) -> Treatment:
    return Treatment({"mode": lambda step: True})


def no_dropout(probe: Probe, remedy: Remedy) -> Treatment:
    return Treatment({"dropout": False})
