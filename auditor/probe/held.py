"""What a module holds under a name, read without running any code of the module."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def held(module: nn.Module, name: str) -> torch.Tensor | None:
    """The parameter, buffer or plain tensor `module.<name>`; None where it is computed when it is asked for.

    Reading a parametrized weight is not free of effects: spectral normalisation does a power iteration each time, and
    the next step of the script would compute with other vectors. The same holds for a property of the script's own.
    """
    found: Any = module._parameters.get(name)
    if found is None:
        found = module._buffers.get(name, vars(module).get(name))
    return found if isinstance(found, torch.Tensor) else None
