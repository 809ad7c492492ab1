"""Labels in a loss written by hand, as its graph shows them: `logp.gather(-1, y[..., None])`, `logp[rows, y]`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from auditor.probe.lossgraph import kind
from auditor.probe.savedtensors import kept

MOST_NODES = 64  # of the loss's graph, looked at breadth first: the formula is what lies next to the root
FEWEST_CLASSES = 2


@dataclass
class Picked:
    """One value taken out of each row: where, out of how many, and the node that did it."""

    labels: torch.Tensor  # one a row of what it was taken from
    classes: int
    node: Any

    def tell_counted(self, told: Callable[[torch.Tensor], None]) -> None:
        """Calls `told` in the backward pass with a flat bool: this label's value had a gradient that is not 0."""
        rows = self.labels.numel()

        def hook(inputs: Any, outputs: Any) -> None:
            gradient = outputs[0] if outputs else None
            with suppress(Exception):  # inside the user's own backward
                if isinstance(gradient, torch.Tensor) and gradient.numel() == rows:
                    told(gradient.detach().reshape(-1) != 0)

        self.node.register_hook(hook)


def picked_labels(root: Any) -> list[Picked]:
    """In the graph of a loss, from its end. What such an operation is given is not looked into any further."""
    found: list[Picked] = []
    queue, seen = [root], {root}
    for node in queue:  # grows while it is read
        taken = _picked(node)
        if taken is not None:
            found.append(taken)
            continue
        for following, _ in node.next_functions:
            if following is not None and following not in seen and len(queue) < MOST_NODES:
                seen.add(following)
                queue.append(following)
    return found


def _picked(node: Any) -> Picked | None:
    name = kind(node)
    if name == "Gather":
        source, index = kept(node, "self"), kept(node, "index")
        axis = node._saved_dim - 2**64 if node._saved_dim >= 2**63 else node._saved_dim
        if source is None or index is None or not source.dim():
            return None
        axis %= source.dim()
        whole = index.shape[axis] == 1 and prod(index.shape) * source.shape[axis] == prod(source.shape)
        return Picked(index.squeeze(axis), source.shape[axis], node) if whole and _enough(source.shape[axis]) else None
    if name == "Index":
        indices, shape = list(kept(node, "indices") or ()), list(node._saved_self_sym_sizes)
        if len(indices) != len(shape) or any(not _counts(index) for index in indices):
            return None
        labels = torch.broadcast_tensors(*indices)[-1]  # type: ignore[no-untyped-call]
        return Picked(labels, shape[-1], node) if labels.numel() == prod(shape[:-1]) and _enough(shape[-1]) else None
    return None


def _counts(index: Any) -> bool:
    return isinstance(index, torch.Tensor) and index.dtype in (torch.int64, torch.int32)


def _enough(classes: int) -> bool:
    return classes >= FEWEST_CLASSES
