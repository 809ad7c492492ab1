"""Attention weights that are all one: a softmax along an axis with one entry weighs the summands of a sum.

The autograd graph shows both: the axis that the softmax normalized, and the axis that its product is summed along.
One key, one expert or one class alone also have an axis of one entry; there that same axis is summed, or none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from auditor.probe.consumers import Consumers
from auditor.probe.graph import REARRANGING
from auditor.probe.lossgraph import kind, parents, size, softmax_axis

FAR = 8  # operations that only rearrange, between the softmax and the product
PASSING = REARRANGING | {"NativeDropout", "FusedDropout"}


def lone_softmaxes(made: Iterable[Any]) -> list[Any]:
    """Of the graph's nodes, softmaxes over one entry that have another axis, besides the batch's, with several."""
    return [node for node in made if _is_lone(node)]


def _is_lone(node: Any) -> bool:
    axis, shape = softmax_axis(node), size(node)
    return axis is not None and axis > 0 and len(shape) > 2 and shape[axis] == 1 and max(shape[1:]) > 1


def weighs(node: Any, consumers: Consumers) -> int:
    """How many summands the softmax weighs, on the way to the loss; 0 when it weighs none."""
    reached, latest = [node], [node]
    for _ in range(FAR):
        latest = [each for one in latest for each in consumers.of(one) if kind(each) in PASSING]
        reached += latest
    for each in reached:
        for product in consumers.of(each):
            summands = _contracted(product, each) if kind(product) == "Bmm" else 0
            if kind(product) == "Mul" and size(each) == size(node):
                summands = max((_summed(product, node, following) for following in consumers.of(product)), default=0)
            if summands > 1:
                return summands
    return 0


def _contracted(product: Any, weights: Any) -> int:
    """Length of the axis that a batched matrix product sums over, seen from this factor."""
    shape = size(weights)
    if len(shape) != 3:
        return 0
    first = product.next_functions[0][0] is weights
    return shape[2] if first else shape[1]


def _summed(product: Any, softmax: Any, following: Any) -> int:
    """Length of the axes, besides the batch's and the softmax's own, that the weighed summands are added along."""
    shape, weights = size(product), size(softmax)
    axes = getattr(following, "_saved_dim", None)
    if kind(following) != "Sum" or not isinstance(axes, tuple) or len(shape) != len(weights):
        return 0
    others = [size(parent) for parent in parents(product) if parent is not softmax]
    count = 1
    for axis in (axis - 2**64 + len(shape) if axis >= 2**63 else axis for axis in axes):
        weighed = 0 < axis < len(shape) and weights[axis] == shape[axis]
        if weighed and all(len(other) != len(shape) or other[axis] == shape[axis] for other in others):
            count *= shape[axis]
    return count


def crossed(node: Any, consumers: Consumers) -> bool:
    """The softmax gives a square table of weights, and all its products sum along the other one of its two axes: what
    is added up was never made to compete. Not so where the table is normalized again before it is used."""
    shape, axis = size(node), softmax_axis(node)
    rank = len(shape)
    if axis is None or rank < 2 or axis < rank - 2 or shape[-1] != shape[-2] or shape[-1] < 2:
        return False
    queue, found = [(node, axis - rank)], False  # the axis is counted from the end: -1 or -2
    for _ in range(FAR):
        following = [(product, each, side) for each, side in queue for product in consumers.of(each)]
        queue = []
        for product, each, side in following:
            if kind(product) in ("Bmm", "Mm"):
                summed = -1 if product.next_functions[0][0] is each else -2
                if summed == side:
                    return False
                found = True
            else:
                moved = _moved(product, each, side)
                queue += [(product, moved)] if moved is not None else []
    return found


def _moved(following: Any, node: Any, side: int) -> int | None:
    """Where the axis (-1 or -2) is after an operation that only rearranges; None where that is not known."""
    name, before, after = kind(following), size(node), size(following)
    if name in ("Transpose", "Permute"):
        rank = len(after)
        if name == "Transpose":
            order = list(range(rank))
            one, other = (_wrapped(getattr(following, f"_saved_dim{which}"), rank) for which in (0, 1))
            order[one], order[other] = other, one
        else:
            order = [_wrapped(dim, rank) for dim in following._saved_dims]
        new = order.index(side + rank) - rank
        other_new = order.index(-3 - side + rank) - rank
        return new if {new, other_new} == {-1, -2} else None
    masked = name == "Mul" and len(parents(following)) == 1  # by a constant: dropout, a mask
    return side if (name in PASSING or masked) and before[-2:] == after[-2:] else None


def _wrapped(dim: int, rank: int) -> int:
    return (dim - 2**64 if dim >= 2**63 else dim) % rank
