"""Looking at the model beside the loop: further calls of it, at one of its own training forwards, that leave no trace.

Experiments use it where the question is about the model's function and not about its training: does one sample's output
depend on another sample, does an output depend on later tokens, do two passes in evaluation mode agree?
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from auditor.probe.batches import clone, tensors
from auditor.probe.randomness import RandomState, reseed

SEED = 70_001


class Examination:
    """One training forward of a root module, with the arguments it is about to be called with."""

    def __init__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.module = module
        self.args = args
        self.kwargs = kwargs

    def outputs(
        self,
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        *,
        training: bool = False,
        seed: int = SEED,
    ) -> list[torch.Tensor]:
        """Every floating-point tensor that the model returns for these arguments (default: its own), detached.

        `training`: the mode of all its modules. Each call draws the random numbers of `seed`. Raises what the model
        raises.
        """
        with self._untouched(), _in_mode(self.module, training), torch.no_grad():
            reseed(seed)
            result = self.module(*clone(self.args if args is None else args), **clone(kwargs or self.kwargs))
            return [t.detach().clone() for t in tensors(result) if t.is_floating_point() and t.layout == torch.strided]

    @contextmanager
    def _untouched(self) -> Iterator[None]:
        """Random numbers and buffers (running statistics, power iterations, caches) are as before afterwards."""
        state = RandomState.capture()
        buffers = [(buffer, buffer.detach().clone()) for buffer in self.module.buffers()]
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # other kernels and other shapes than in training
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            with torch.no_grad():
                for buffer, kept in buffers:
                    buffer.data.copy_(kept)
            state.restore()


@contextmanager
def _in_mode(module: nn.Module, training: bool) -> Iterator[None]:
    """The flags themselves are set: train() and eval() may be the user's own."""
    before = [(each, each.training) for each in module.modules()]
    for each, _ in before:
        each.training = training
    try:
        yield
    finally:
        for each, mode in before:
            each.training = mode
