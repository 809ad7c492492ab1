"""Remedies of the optimizer, the gradients and the learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from auditor.evidence import Remedy
from auditor.probe.remedies.treatment import Treatment, amount
from auditor.probe.replay import NotRun

if TYPE_CHECKING:
    from auditor.probe.probe import Probe


def rate(probe: Probe, remedy: Remedy) -> Treatment:
    if probe.manual():
        raise NotRun("the weights are updated without a torch optimizer, whose rate could be changed")
    factor = amount(remedy)
    return Treatment({"rate": lambda step: factor})


def warm_up(probe: Probe, remedy: Remedy) -> Treatment:
    if probe.manual():
        raise NotRun("the weights are updated without a torch optimizer, whose rate could be changed")
    steps = amount(remedy)
    return Treatment({"rate": lambda step: min(1.0, (step + 1) / steps)})


def hold_rate(probe: Probe, remedy: Remedy) -> Treatment:
    return Treatment({"peak_rate": True})


def clip_gradients(probe: Probe, remedy: Remedy) -> Treatment:
    if probe.manual():
        raise NotRun("the weights are updated without a torch optimizer, before whose step gradients could be clipped")
    limit = amount(remedy)

    def clip(step: int, parameters: list[torch.Tensor]) -> None:
        nn.utils.clip_grad_norm_(parameters, limit)

    return Treatment({"at_update": clip})


def divide_loss(probe: Probe, remedy: Remedy) -> Treatment:
    divisor = amount(remedy)

    def divide(step: int, parameters: list[torch.Tensor]) -> None:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.div_(divisor)

    return Treatment({"at_update": divide})


def zero_gradients(probe: Probe, remedy: Remedy) -> Treatment:
    return Treatment({"zero_gradients": True})


def add_parameters(probe: Probe, remedy: Remedy) -> Treatment:
    stepped = probe.program.stepped()
    ownership = probe.collectors.find("ownership")
    forgotten = ownership.forgotten() if ownership is not None else []
    if probe.manual() or not stepped or not forgotten:
        raise NotRun("there is no optimizer, or no parameter that it lacks")
    optimizer = stepped[0].optimizer
    kept = [parameter.detach().clone() for parameter in forgotten]

    def prepare() -> None:
        options = {key: value for key, value in optimizer.param_groups[-1].items() if key != "params"}
        optimizer.add_param_group({**options, "params": forgotten})

    def undo() -> None:
        optimizer.param_groups[:] = [g for g in optimizer.param_groups if g["params"][0] is not forgotten[0]]
        for parameter, value in zip(forgotten, kept, strict=True):
            optimizer.state.pop(parameter, None)
            parameter.data.copy_(value)

    return Treatment({"prepare": prepare, "undo": undo})


def learn_layers(probe: Probe, remedy: Remedy) -> Treatment:
    names, wanted = probe.program.module_names(), set(remedy.layers)
    modules = [module for _, model in probe.program.models() for module in model.modules()]
    chosen = [module for module in modules if names.get(id(module)) in wanted]
    frozen = [p for module in chosen for p in module.parameters(recurse=False) if not p.requires_grad]
    stepped = probe.program.stepped()
    if probe.manual() or not stepped or not frozen:
        raise NotRun("there is no optimizer, or no frozen weight in these layers")
    optimizer = stepped[0].optimizer
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    added = [p for p in frozen if id(p) not in held]
    kept = [parameter.detach().clone() for parameter in frozen]

    def prepare() -> None:
        for parameter in frozen:
            parameter.requires_grad_(True)
        if added:
            options = {key: value for key, value in optimizer.param_groups[-1].items() if key != "params"}
            optimizer.add_param_group({**options, "params": added})

    def undo() -> None:
        if added:
            optimizer.param_groups[:] = [g for g in optimizer.param_groups if g["params"][0] is not added[0]]
        for parameter, value in zip(frozen, kept, strict=True):
            optimizer.state.pop(parameter, None)
            parameter.requires_grad_(False)
            parameter.grad = None
            parameter.data.copy_(value)

    return Treatment({"prepare": prepare, "undo": undo})


def no_auxiliary(probe: Probe, remedy: Remedy) -> Treatment:
    return Treatment({"auxiliary": False}, metric="loss of the data")


def no_penalty(probe: Probe, remedy: Remedy) -> Treatment:
    return Treatment({"weight_decay": False, "penalty": False}, metric="loss of the data")


def clip_unscaled(probe: Probe, remedy: Remedy) -> Treatment:
    """The script's own calls do nothing; each update clips at their limit. Scalers unscale before that."""
    limits: list[float] = []

    def clip(step: int, parameters: list[torch.Tensor]) -> None:
        if limits:
            nn.utils.clip_grad_norm_(parameters, limits[-1])

    return Treatment({"instead_of_clipping": limits.append, "at_update": clip})
