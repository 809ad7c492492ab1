"""`Target`: how a file without a training loop says what to train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Target:
    """What `audit_target()` returns. Only `model` is needed; whatever is left out gets a stated default.

    model: a torch.nn.Module. loss: callable (output, target) -> scalar tensor; default by the target's type:
    cross entropy for integer classes, binary cross entropy with logits for {0, 1} floats, mean squared error otherwise.
    optimizer: a torch.optim.Optimizer over the model's parameters, or a callable parameters -> optimizer; default
    Adam(lr=1e-3). train, validation, test: DataLoader, Dataset, or a tuple of tensors (inputs, targets).
    example_inputs: for a model without data, a tensor or tuple of tensors for the forward call.
    """

    model: Any
    loss: Any = None
    optimizer: Any = None
    train: Any = None
    validation: Any = None
    test: Any = None
    example_inputs: Any = None
    batch_size: int = 32
