"""Terms of a loss that are no matter of the data, and a backward without them: functions of the weights alone (L1, L2,
norms), and terms beside the loss function that ask something of the outputs alone (a divergence, smoothness)."""

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
# What such a term of the outputs is made of, down to the model.
BY_ELEMENT = ELEMENTARY | {
    "Sub", "Rsub", "Exp", "Log", "Log1P", "Clamp", "ClampMin", "ClampMax", "Relu", "Softplus", "Sigmoid", "Softmax",
    "LogSoftmax", "Logsumexp", "Max", "Min", "Amax", "Amin", "Var", "Std", "Narrow",
}  # fmt: skip
MOST_SUMMANDS = 4000
MOST_NODES = 50_000
LONGEST = 200  # nodes of one term


def penalty_nodes(root: Any) -> list[Any]:
    """Graph nodes of the summands that depend on weights alone; none where all summands do, or where one is unclear."""
    summands = list(_summands(root))
    penalties = [node for node in summands if _of_weights_alone(node)]
    return penalties if len(penalties) < len(summands) else []


def auxiliary_nodes(root: Any, losses: set[Any]) -> list[Any]:
    """Graph nodes of the summands beside those that hold one of `losses`, the results of loss functions. None where no
    summand holds one. Terms that bring in data of their own (a log-probability times an advantage, the outputs of
    chosen classes) are left alone."""
    summands = list(_summands(root))
    others = [node for node in summands if not _holds(node, losses)]
    if not losses or len(others) == len(summands):
        return []
    return [node for node in others if not _of_weights_alone(node) and not _with_data(node)]


def _holds(node: Any, losses: set[Any]) -> bool:
    queue, seen = [node], {node}
    while queue and len(seen) < MOST_NODES:
        current = queue.pop()
        if current in losses:
            return True
        for parent in parents(current):
            if parent not in seen:
                seen.add(parent)
                queue.append(parent)
    return bool(queue)  # too large to be sure


def _with_data(node: Any) -> bool:
    """A factor that is no constant, or a choice by index, comes in between the term and the model."""
    queue, seen = [node], {node}
    while queue and len(seen) < MOST_NODES:
        current = queue.pop()
        name = kind(current)
        if name in ("Gather", "Index", "NllLoss") or not (_by_a_number(current) or _both(current)):
            return True
        if name in BY_ELEMENT:
            for parent in parents(current):
                if parent not in seen:
                    seen.add(parent)
                    queue.append(parent)
    return False


@contextmanager
def without_penalties(
    roots: tuple[torch.Tensor, ...], found: list[int], losses: set[Any] | None = None
) -> Iterator[None]:
    """Inside, a backward of `roots` gives these terms no gradient: those of weights, or those beside `losses`. `found`
    gets their number."""
    ends = [root.grad_fn for root in roots if root.grad_fn is not None]
    nodes = [node for end in ends for node in (penalty_nodes(end) if losses is None else auxiliary_nodes(end, losses))]
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
