"""Recurrent layers at the very start: the size of their weights, and how many of their gates are flat already.

Their gates are computed inside one operation, so they are worked out again here, for a few samples, from what the layer
received and returned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from auditor.probe.held import held

KINDS = (nn.RNNBase, nn.RNNCellBase)
SAMPLES = 32
POSITIONS = 64  # of a sequence, where its states are worked out one by one
# |argument| beyond which the slope is below 1 % of its largest
FLAT_TANH = math.atanh(math.sqrt(0.99))
FLAT_SIGMOID = 2 * FLAT_TANH
_MATRICES, _BIASES = ("weight_ih_l0", "weight_hh_l0"), ("bias_ih_l0", "bias_hh_l0")


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
    """0-d: share of the gates and candidates in one forward that are flat; of the first layer and the forward direction
    where there are several. None for layers that cannot be redone."""
    if not _redoable(module, args):
        return None
    assert isinstance(module, nn.LSTM | nn.GRU | nn.RNN)
    out = result[0] if isinstance(result, tuple) else None
    with torch.no_grad():
        x = _sequences(module, args[0])
        whole = module.num_layers == 1 and not module.bidirectional
        if whole and isinstance(out, torch.Tensor) and out.dim() == 3:
            return _flat_of(module, x, _sequences(module, out))
        x = x[:, :POSITIONS]
        return _flat_of(module, x, _unrolled(module, x))


@dataclass(frozen=True)
class Entering:
    """What a recurrent layer receives in one forward: per feature, over samples and positions."""

    mean: torch.Tensor
    std: torch.Tensor
    flat: torch.Tensor  # 0-d: see `flat_share`, were it standardized

    def standardize(self, tensor: torch.Tensor) -> torch.Tensor:
        """By constants: of another input it is a shift and a scale of each feature, and no more."""
        if tensor.shape[-1:] != self.mean.shape or not tensor.is_floating_point():
            return tensor
        return (tensor - self.mean.to(tensor)) / self.scale().to(tensor)

    def scale(self) -> torch.Tensor:
        """A feature that hardly varies is scaled as the typical one, and not blown up."""
        typical = self.std[self.std > 0].median() if bool((self.std > 0).any()) else torch.ones_like(self.std[0])
        return torch.where(self.std > 1e-3 * typical, self.std, typical)


def entering(module: nn.Module, args: Any) -> Entering | None:
    """None for layers that cannot be redone."""
    if not _redoable(module, args):
        return None
    assert isinstance(module, nn.LSTM | nn.GRU | nn.RNN)
    with torch.no_grad():
        given = args[0].data if isinstance(args[0], PackedSequence) else args[0]
        rows = given.detach().float().reshape(-1, given.shape[-1])
        found = Entering(rows.mean(0), rows.std(0, unbiased=False), torch.zeros(()))
        x = found.standardize(_sequences(module, args[0])[:, :POSITIONS])
        return replace(found, flat=_flat_of(module, x, _unrolled(module, x)))


def standardized(module: nn.Module, found: Entering) -> Any:
    """A hook that stands before the layer; the handle removes it."""

    def change(_module: nn.Module, args: tuple[Any, ...]) -> Any:
        if not args:
            return None
        given = args[0]
        if isinstance(given, PackedSequence):
            return (given._replace(data=found.standardize(given.data)), *args[1:])
        return (found.standardize(given), *args[1:]) if isinstance(given, torch.Tensor) else None

    return module.register_forward_pre_hook(change)


def _redoable(module: nn.Module, args: Any) -> bool:
    """A layer of torch's own that starts from zeros, on sequences of its own weights."""
    if not isinstance(module, nn.LSTM | nn.GRU | nn.RNN) or len(args) != 1 or getattr(module, "proj_size", False):
        return False
    given = args[0].data if isinstance(args[0], PackedSequence) else args[0]
    sequences = isinstance(given, torch.Tensor) and given.dim() == (2 if isinstance(args[0], PackedSequence) else 3)
    return sequences and given.numel() > 0 and all(held(module, name) is not None for name in _MATRICES)


def _sequences(module: Any, given: Any) -> torch.Tensor:
    """(samples, positions, features) of some samples; of packed ones, the positions that all of these have."""
    if isinstance(given, PackedSequence):
        padded, lengths = pad_packed_sequence(given, batch_first=True)
        return padded.detach()[:SAMPLES, : int(lengths[:SAMPLES].min())].float()
    values: torch.Tensor = given.detach() if module.batch_first else given.detach().transpose(0, 1)
    return values[:SAMPLES].float()


def _unrolled(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """(samples, positions, units): states of the first layer, from zeros."""
    given = [held(module, name) for name in (*_MATRICES, *_BIASES)]
    weights_of = [each.detach().float() if each is not None else None for each in given]
    state = x.new_zeros(x.shape[0], weights_of[1].shape[1])  # type: ignore[union-attr]
    cell, states = state, []
    for position in range(x.shape[1]):
        if isinstance(module, nn.LSTM):
            state, cell = torch.lstm_cell(x[:, position], (state, cell), *weights_of)  # type: ignore[arg-type]
        elif isinstance(module, nn.GRU):
            state = torch.gru_cell(x[:, position], state, *weights_of)  # type: ignore[arg-type]
        else:
            state = torch.rnn_tanh_cell(x[:, position], state, *weights_of)  # type: ignore[arg-type]
        states.append(state)
    return torch.stack(states, 1)


def _flat_of(module: nn.Module, x: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """`states`: what came out at every position."""
    inputs = [held(module, name) for name in ("weight_ih_l0", "bias_ih_l0")]
    recurrent = [held(module, name) for name in ("weight_hh_l0", "bias_hh_l0")]
    before = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], dim=1)
    return _flat(module, _affine(x, inputs), _affine(before, recurrent))


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
