"""Rewind: put the training state back to what it was when a snapshot was taken.

The state is all that a step reads and writes: parameters, buffers, gradients, optimizer state and hyper-parameters,
loss scale. Tensors are restored in place, so every reference that the user's program holds stays valid.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter


def is_lazy(tensor: torch.Tensor) -> bool:
    """True for a parameter or buffer of a lazy module that has no shape yet."""
    return isinstance(tensor, UninitializedParameter | UninitializedBuffer)


def _kept(tensor: torch.Tensor) -> torch.Tensor:
    """A copy on the host for a tensor on a device: the device's memory is the user's."""
    return tensor.detach().to("cpu", copy=True)


def _keep_state(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return _kept(value)
    if isinstance(value, dict):
        return {key: _keep_state(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(_keep_state(item) for item in value)
    return copy.copy(value)


def _give_back(value: Any, like: Any, device: torch.device) -> Any:
    """A fresh copy of kept optimizer state, on the device that its present counterpart has."""
    if isinstance(value, torch.Tensor):
        return value.to(like.device if isinstance(like, torch.Tensor) else device, copy=True)
    if isinstance(value, dict):
        present = like if isinstance(like, dict) else {}
        return {key: _give_back(item, present.get(key), device) for key, item in value.items()}
    if isinstance(value, list | tuple):
        present_items = like if isinstance(like, list | tuple) and len(like) == len(value) else [None] * len(value)
        return type(value)(_give_back(a, b, device) for a, b in zip(value, present_items, strict=True))
    return copy.copy(value)


class Snapshot:
    """State of models and optimizers at one moment. One copy of all it covers, on the host."""

    def __init__(
        self,
        modules: Iterable[torch.nn.Module],
        optimizers: Iterable[torch.optim.Optimizer],
        scalers: Iterable[Any] = (),
        extra: Iterable[torch.Tensor] = (),
    ) -> None:
        self._tensors: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._grads: list[tuple[torch.Tensor, torch.Tensor | None]] = []
        seen: set[int] = set()
        self._seen = seen
        optimizers = list(optimizers)
        self.include(modules)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                for tensor in group["params"]:
                    self._take(tensor, seen)
        for tensor in extra:
            self._take(tensor, seen)
        self._states = [(optimizer, self._state_of(optimizer)) for optimizer in optimizers]
        self._groups = [
            (optimizer, [{k: _keep_state(v) for k, v in g.items() if k != "params"} for g in optimizer.param_groups])
            for optimizer in optimizers
        ]
        self._scalers = [(scaler, copy.deepcopy(scaler.state_dict())) for scaler in scalers]

    def covers(self, tensors: Iterable[torch.Tensor]) -> bool:
        return all(id(tensor) in self._seen for tensor in tensors)

    def include(self, modules: Iterable[torch.nn.Module]) -> None:
        """Take their parameters and buffers in as well, as they are now."""
        for module in modules:
            for tensor in (*module.parameters(), *module.buffers()):
                self._take(tensor, self._seen)

    def _take(self, tensor: torch.Tensor, seen: set[int]) -> None:
        if id(tensor) in seen or not isinstance(tensor, torch.Tensor):
            return
        seen.add(id(tensor))
        if is_lazy(tensor):
            return
        self._tensors.append((tensor, _kept(tensor)))
        if tensor.requires_grad and tensor.is_leaf:
            grad = tensor.grad
            self._grads.append((tensor, None if grad is None else _kept(grad)))

    @staticmethod
    def _state_of(optimizer: torch.optim.Optimizer) -> dict[Any, Any]:
        return {key: _keep_state(value) for key, value in optimizer.state.items()}

    def restore(self) -> None:
        """Put everything back, in place."""
        with torch.no_grad():
            for tensor, kept in self._tensors:
                tensor.data.copy_(kept)
            for tensor, grad in self._grads:
                if grad is None:
                    # Zeros, not None: the loop may be about to read the gradients of the step that it has just taken.
                    if tensor.grad is not None:
                        tensor.grad.data.zero_()
                elif tensor.grad is None:
                    tensor.grad = grad.to(tensor.device, copy=True)
                else:
                    tensor.grad.data.copy_(grad)
        for optimizer, state in self._states:
            present = dict(optimizer.state)
            optimizer.state.clear()
            for key, value in state.items():
                device = key.device if isinstance(key, torch.Tensor) else torch.device("cpu")
                optimizer.state[key] = _give_back(value, present.get(key), device)
        for optimizer, groups in self._groups:
            for group, kept_group in zip(optimizer.param_groups, groups, strict=False):
                group.update(copy.deepcopy(kept_group))
        for scaler, state in self._scalers:
            scaler.load_state_dict(copy.deepcopy(state))

    def kept(self) -> dict[int, torch.Tensor]:
        """id of a covered tensor -> its kept value, on the host."""
        return {id(original): kept for original, kept in self._tensors}

    def initial(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The kept value of one tensor, on the host."""
        return next((kept for original, kept in self._tensors if original is tensor), None)
