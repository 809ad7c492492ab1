"""State of every global random number generator that a training loop draws from."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class RandomState:
    python: Any
    numpy: Any
    host: torch.Tensor
    cuda: tuple[torch.Tensor, ...]

    @staticmethod
    def capture() -> RandomState:
        """Reading a state draws nothing and synchronises nothing."""
        numpy = sys.modules.get("numpy.random")
        cuda: tuple[torch.Tensor, ...] = ()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            cuda = tuple(torch.cuda.get_rng_state(index) for index in range(torch.cuda.device_count()))
        return RandomState(
            random.getstate(), numpy.get_state(legacy=True) if numpy else None, torch.get_rng_state(), cuda
        )

    def differs(self, other: RandomState) -> bool:
        """True when numbers were drawn between the two."""
        return bool(self.differing(other))

    def differing(self, other: RandomState) -> tuple[str, ...]:
        """Names of the libraries whose generators were drawn from, or seeded, between the two."""
        ours, theirs = self.numpy, other.numpy
        numpy = ours is not None and theirs is not None and (ours[2] != theirs[2] or (ours[1] != theirs[1]).any())
        devices = len(self.cuda) != len(other.cuda) or any(
            not torch.equal(a, b) for a, b in zip(self.cuda, other.cuda, strict=True)
        )
        drawn = {
            "torch": devices or not torch.equal(self.host, other.host),
            "numpy": numpy,
            "random": self.python != other.python,
        }
        return tuple(name for name, differs in drawn.items() if differs)

    def restore(self) -> None:
        random.setstate(self.python)
        if self.numpy is not None:
            sys.modules["numpy.random"].set_state(self.numpy)
        torch.set_rng_state(self.host)
        for index, state in enumerate(self.cuda):
            torch.cuda.set_rng_state(state, index)


def reseed(seed: int) -> None:
    """Seed every global generator, for the paired arms of an experiment."""
    random.seed(seed)
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed(seed % 2**32)
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:  # torch.manual_seed notes, with its stack, at each call what the first use of an accelerator is to do
        torch.default_generator.manual_seed(seed)
