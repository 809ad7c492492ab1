"""Terms of a loss that are a function of the weights alone (L1, L2, norms), and a backward without them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from auditor.probe.graph import REARRANGING
from auditor.probe.lossgraph import SUMMING, kind, parents, saved

# What norms of weights are made of. A data term goes through a matrix product, a convolution, a difference.
ELEMENTARY = (
    SUMMING
    | REARRANGING
    | {"Abs", "Pow", "Sum", "Mean", "Sqrt", "Add", "Mul", "Div", "Neg", "Stack", "Norm", "LinalgVectorNorm"}
)
MOST_SUMMANDS = 4000
LONGEST = 200  # nodes of one term


def penalty_nodes(root: Any) -> list[Any]:
    """Graph nodes of the summands that depend on weights alone; none where all summands do, or where one is unclear."""
    summands = list(_summands(root))
    penalties = [node for node in summands if _of_weights_alone(node)]
    return penalties if len(penalties) < len(summands) else []


@contextmanager
def without_penalties(roots: tuple[torch.Tensor, ...], found: list[int]) -> Iterator[None]:
    """Inside, a backward of `roots` gives these terms no gradient. `found` gets their number."""
    nodes = [node for root in roots if root.grad_fn is not None for node in penalty_nodes(root.grad_fn)]
    found.append(len(nodes))
    handles = [node.register_prehook(_nothing) for node in nodes]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _nothing(gradients: tuple[torch.Tensor | None, ...]) -> tuple[torch.Tensor | None, ...]:
    return tuple(None if gradient is None else torch.zeros_like(gradient) for gradient in gradients)


def _summands(root: Any) -> Iterator[Any]:
    """Nodes below additions and constant factors."""
    queue, looked = [root], 0
    while queue and looked < MOST_SUMMANDS:
        looked += 1
        node = queue.pop()
        name, above = kind(node), parents(node)
        if name in ("Add", "Sub") and above and all(kind(parent) != "AccumulateGrad" for parent in above):
            queue.extend(above)
        elif name in ("Mul", "Div", "Neg", *SUMMING) and len(above) == 1 and _by_a_number(node):
            queue.append(above[0])
        else:
            yield node


def _by_a_number(node: Any) -> bool:
    """True unless a product with a tensor of several values, or with the tensor itself."""
    if kind(node) not in ("Mul", "Div"):
        return True
    return sum(parent is not None for parent, _ in node.next_functions) == 1 and saved(node, "other") is not None


def _of_weights_alone(node: Any) -> bool:
    """True when elementary operations lead from nothing but parameters to the node."""
    queue, seen = [node], {node}
    weights = 0
    while queue:
        current = queue.pop()
        name = kind(current)
        if name == "AccumulateGrad":
            weights += 1
            continue
        if name not in ELEMENTARY or not (_by_a_number(current) or _both(current)) or len(seen) > LONGEST:
            return False
        for parent in parents(current):
            if parent not in seen:
                seen.add(parent)
                queue.append(parent)
    return weights > 0 and kind(node) != "AccumulateGrad"


def _both(node: Any) -> bool:
    """Every input has a graph."""
    return all(parent is not None for parent, _ in node.next_functions)
