"""A cross entropy written by hand: the logarithm of each sample's own class is picked from a table of samples and
classes. Along which axis was that table normalised? All told by the autograd graph of the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from auditor.probe.graph import REARRANGING
from auditor.probe.lossgraph import SUMMING, kind, parents, size, softmax_axis
from auditor.probe.savedtensors import kept

FAR = 24
REDUCING = SUMMING | {"Neg", "Mean", "Sum", "Mul", "Div"}
HARMLESS = frozenset({"Add", "Clamp", "ClampMin", "ClampMax"})  # what keeps a logarithm finite


@dataclass(frozen=True)
class Picked:
    """`shape` of the table; axis that it is normalised along, and axis along which one class a sample is picked."""

    shape: tuple[int, ...]
    normalised: int
    classes: int


def picked_class(root: Any) -> Picked | None:
    node = root
    for _ in range(FAR):
        if node is None or kind(node) in ("Index", "Gather"):
            break
        node = parents(node)[0] if kind(node) in REDUCING and len(parents(node)) == 1 else None
    if node is None or not parents(node):
        return None
    table = parents(node)[0]
    shape, classes = size(table), _class_axis(node)
    axis = _normalised_axis(table)
    if len(shape) != 2 or classes is None or axis is None:
        return None
    return Picked(shape, axis, classes)


def _class_axis(node: Any) -> int | None:
    """Axis along which one entry of each row is taken; None where it is not so."""
    if kind(node) == "Gather":
        axis = getattr(node, "_saved_dim", None)
        if not isinstance(axis, int):
            return None
        axis = axis - 2**64 + 2 if axis >= 2**63 else axis % 2
        return axis if size(node)[axis : axis + 1] == (1,) else None
    indices = kept(node, "indices")
    if not isinstance(indices, tuple) or len(indices) != 2 or not all(isinstance(i, torch.Tensor) for i in indices):
        return None
    for axis in (1, 0):
        order = indices[1 - axis]
        if order.dim() == 1 and torch.equal(order.cpu(), torch.arange(len(order))):
            return axis
    return None


def _normalised_axis(node: Any) -> int | None:
    """Of a logarithm of probabilities: `log_softmax`, `softmax(...).log()`, and both spelled out."""
    above = parents(node)
    if softmax_axis(node) is not None:
        return softmax_axis(node)
    if kind(node) == "Sub" and len(node.next_functions) == 2:
        return _summed_axis(node.next_functions[1][0], logarithm=True)
    if kind(node) != "Log" or not above:
        return None
    inner = above[0]
    while kind(inner) in HARMLESS and len(parents(inner)) == 1:
        inner = parents(inner)[0]
    if kind(inner) == "Div" and len(inner.next_functions) == 2:
        return _summed_axis(inner.next_functions[1][0], logarithm=False)
    return softmax_axis(inner)


def _summed_axis(node: Any, *, logarithm: bool) -> int | None:
    """Axis of the sum of exponentials by which, or by whose logarithm, the values are divided."""
    for _ in range(FAR):
        if node is None:
            return None
        name, above = kind(node), parents(node)
        if (name == "Logsumexp" and logarithm) or (
            name == "Sum" and not logarithm and above and kind(above[0]) == "Exp"
        ):
            axes = getattr(node, "_saved_dim", None)
            given = size(above[0])
            return axes[0] % len(given) if isinstance(axes, tuple) and len(axes) == 1 and len(given) == 2 else None
        if name == "Log" and logarithm:
            logarithm = False
        elif name not in REARRANGING | HARMLESS:
            return None
        node = above[0] if len(above) == 1 else None
    return None
