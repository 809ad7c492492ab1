"""Recurrent layers at the very start: the size of their weights, and how many of their gates are flat already.

Their gates are computed inside one operation, so they are worked out again here, for a few samples, from what the layer
received and returned.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from auditor.probe.held import held

KINDS = (nn.RNNBase, nn.RNNCellBase)
SAMPLES = 32
# |argument| beyond which the slope is below 1 % of its largest
FLAT_TANH = math.atanh(math.sqrt(0.99))
FLAT_SIGMOID = 2 * FLAT_TANH


def weights(module: nn.Module) -> list[torch.Tensor]:
    """Its matrices, (gates x units, inputs) each."""
    names = [name for name in module._parameters if name.startswith("weight")]
    found = [held(module, name) for name in names]
    return [weight for weight in found if weight is not None and weight.dim() == 2]


def gain(module: nn.Module) -> torch.Tensor | None:
    """0-d: the largest std of a recurrent matrix, times the root of its fan-in. Torch's own start has 0.58."""
    names = [name for name in module._parameters if name.startswith("weight_hh")]
    recurrent = [weight for name in names if (weight := held(module, name)) is not None]
    if not recurrent:
        return None
    return torch.stack([weight.detach().float().std() * math.sqrt(weight.shape[1]) for weight in recurrent]).max()


def flat_share(module: nn.Module, args: Any, result: Any) -> torch.Tensor | None:
    """0-d: share of the gates and candidates in one forward that are flat. None for layers that cannot be redone:
    several layers, two directions, packed sequences."""
    if not isinstance(module, nn.LSTM | nn.GRU | nn.RNN) or module.num_layers > 1 or module.bidirectional:
        return None
    given, out = args[0] if args else None, result[0] if isinstance(result, tuple) else None
    if not isinstance(given, torch.Tensor) or not isinstance(out, torch.Tensor) or given.dim() != 3:
        return None
    if len(args) > 1 or getattr(module, "proj_size", False):
        return None
    inputs = [held(module, name) for name in ("weight_ih_l0", "bias_ih_l0")]
    states = [held(module, name) for name in ("weight_hh_l0", "bias_hh_l0")]
    if inputs[0] is None or states[0] is None:
        return None
    with torch.no_grad():
        x, h = (each.detach() if module.batch_first else each.detach().transpose(0, 1) for each in (given, out))
        x, h = x[:SAMPLES].float(), h[:SAMPLES].float()
        before = torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], dim=1)
        return _flat(module, _affine(x, inputs), _affine(before, states))


def _affine(values: torch.Tensor, given: list[torch.Tensor | None]) -> torch.Tensor:
    weight, bias = given
    assert weight is not None
    result = values @ weight.detach().float().T
    return result if bias is None else result + bias.detach().float()


def _flat(module: nn.Module, from_input: torch.Tensor, from_state: torch.Tensor) -> torch.Tensor:
    if isinstance(module, nn.LSTM):
        i, f, g, o = (from_input + from_state).chunk(4, -1)
        gates, candidates = torch.cat([i, f, o], -1), g
    elif isinstance(module, nn.GRU):
        (r, z, n), (hr, hz, hn) = from_input.chunk(3, -1), from_state.chunk(3, -1)
        gates, candidates = torch.cat([r + hr, z + hz], -1), n + (r + hr).sigmoid() * hn
    else:
        gates, candidates = from_input[..., :0], from_input + from_state
        if getattr(module, "nonlinearity", "tanh") != "tanh":
            return torch.zeros((), device=candidates.device)
    flat = [(gates.abs() > FLAT_SIGMOID).float().reshape(-1), (candidates.abs() > FLAT_TANH).float().reshape(-1)]
    return torch.cat(flat).mean()
