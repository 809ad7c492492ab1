"""What the autograd graph tells about a loss: how its value is put together, and what its input can be at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from auditor.probe.graph import REARRANGING
from auditor.probe.savedtensors import kept

MOST_NODES = 256
INFINITY = math.inf
Bounds = tuple[float | None, float | None]  # lowest and highest value of a result; None: no such bound
NONE_KNOWN: Mapping[Any, Bounds] = {}

# Range of the operation's result, by the name of its graph node.
BOUNDS: dict[str, tuple[float, float]] = {
    "Relu": (0, INFINITY),
    "Threshold": (0, INFINITY),
    "Sigmoid": (0, 1),
    "Hardsigmoid": (0, 1),
    "Softmax": (0, 1),
    "_SafeSoftmax": (0, 1),
    "Tanh": (-1, 1),
    "Sin": (-1, 1),
    "Cos": (-1, 1),
    "Softplus": (0, INFINITY),
    "Exp": (0, INFINITY),
    "Abs": (0, INFINITY),
    "Sqrt": (0, INFINITY),
    "Silu": (-0.2785, INFINITY),
    "Gelu": (-0.17, INFINITY),
    "LogSoftmax": (-INFINITY, 0),
    "LogSigmoid": (-INFINITY, 0),
    "MkldnnRnnLayer": (-1, 1),  # the hidden state of an LSTM: a gate times a tanh
}
SUMMING = frozenset({"Clone", "ToCopy", "Squeeze", "Unsqueeze", "View", "Reshape", "Alias"})
LOSSES = frozenset(
    {"MseLoss", "NllLoss", "NllLoss2D", "NllLossNd", "BinaryCrossEntropy", "BinaryCrossEntropyWithLogits", "HuberLoss",
     "SmoothL1Loss", "SoftMarginLoss"}
)  # fmt: skip
SUM_REDUCTION = 2  # torch's own number for it


def kind(node: Any) -> str:
    """'Relu' for ReluBackward0, 'Sum' for SumBackward1."""
    return str(node.name()).rpartition("::")[2].rstrip("0123456789").removesuffix("Backward")


def size(node: Any) -> tuple[int, ...]:
    """Shape of what the operation returned; () where the graph does not tell."""
    try:
        return tuple(int(side) for side in node._input_metadata[0].shape)
    except (AttributeError, IndexError, TypeError, ValueError, RuntimeError):
        return ()


def saved(node: Any, name: str) -> float | None:
    """A number that the operation keeps for its backward."""
    value: Any = kept(node, name)
    if isinstance(value, torch.Tensor) and value.numel() == 1 and value.device.type == "cpu":
        value = value.item()
    return float(value) if isinstance(value, int | float) else None


def bounds(node: Any, known: Mapping[Any, Bounds] = NONE_KNOWN, depth: int = 4) -> Bounds:
    """(lowest, highest) value that the operation can return; None where there is no such bound. Looks through constant
    factors, and through what only puts bounded results together. `known`: nodes of which it is known already."""
    if node in known:
        return known[node]
    name, above = kind(node), parents(node)
    if depth and above and name in ("Mul", "Div", "Neg") and len(above) == 1:
        return _scaled(node, bounds(above[0], known, depth - 1))
    if depth and name == "Mul" and len(above) == 2:
        return _product(*(bounds(parent, known, depth - 1) for parent in above))
    if depth and above and (name in REARRANGING or name == "Stack"):
        return _union([bounds(parent, known, depth - 1) for parent in above])
    if name == "Clamp":
        return saved(node, "min"), saved(node, "max")
    if name in ("ClampMin", "ClampMax"):
        low, high = saved(node, "min"), saved(node, "max")
        return (low, None) if name == "ClampMin" else (None, high)
    if name == "Hardtanh":
        return saved(node, "min_val"), saved(node, "max_val")
    if name == "Elu":
        alpha, scale = saved(node, "alpha"), saved(node, "scale")
        return (None, None) if alpha is None or scale is None else (-alpha * scale, None)
    if name == "Pow":
        return (0.0, None) if saved(node, "exponent") == 2 else (None, None)
    low, high = BOUNDS.get(name, (-INFINITY, INFINITY))
    return (low if math.isfinite(low) else None), (high if math.isfinite(high) else None)


def _scaled(node: Any, inner: Bounds) -> Bounds:
    """Of a constant multiple."""
    factor: float | None = -1.0
    if kind(node) != "Neg":
        factor = saved(node, "other")
        if factor and kind(node) == "Div":
            factor = 1 / factor
    if not factor or not math.isfinite(factor):
        return None, None
    low, high = (None if side is None else side * factor for side in inner)
    return (low, high) if factor > 0 else (high, low)


def _product(one: Bounds, other: Bounds) -> Bounds:
    """Of two results that are both bounded on both sides: a gate times a tanh."""
    sides = [side for limits in (one, other) for side in limits if side is not None]
    if len(sides) < 4:
        return None, None
    corners = [a * b for a in sides[:2] for b in sides[2:]]
    return min(corners), max(corners)


def _union(each: list[Bounds]) -> Bounds:
    lows, highs = [low for low, _ in each], [high for _, high in each]
    return (
        None if None in lows else min(low for low in lows if low is not None),
        None if None in highs else max(high for high in highs if high is not None),
    )


def parents(node: Any) -> list[Any]:
    """The distinct nodes that the operation's own inputs came from."""
    found: list[Any] = []
    for parent, _ in node.next_functions:
        if parent is not None and parent not in found:
            found.append(parent)
    return found


def softmax_axis(node: Any) -> int | None:
    """Axis of a softmax or log-softmax, counted from the front; None for other operations."""
    if kind(node) not in ("Softmax", "LogSoftmax", "_SafeSoftmax"):
        return None
    axis, rank = getattr(node, "_saved_dim", None), len(size(node))
    if not isinstance(axis, int) or not rank:
        return None
    return axis - 2**64 + rank if axis >= 2**63 else axis % rank


def sole_softmax(node: Any) -> Any:
    """The softmax that alone determines the value: every operation between has one input with a graph. Else None."""
    for _ in range(MOST_NODES):
        if node is None or softmax_axis(node) is not None:
            return node
        above = parents(node)
        if len(above) != 1:
            return None
        node = above[0]
    return None


@dataclass(frozen=True)
class Term:
    """One summand of a loss. `kind`: how its values became one number."""

    kind: Literal["sum", "mean", "other"]
    factor: float
    rows: int
    entries: int = 0  # that were summed or averaged; 0 where the graph does not tell


def terms(root: Any) -> list[Term]:
    """The summands of the value that backward() is called on."""
    return [_term(node, factor) for node, factor in _summands(root)]


def _summands(root: Any) -> Iterator[tuple[Any, float]]:
    """(node, constant factor) of every summand, found below additions and constant factors."""
    queue, looked = [(root, 1.0)], 0
    while queue and looked < MOST_NODES:
        looked += 1
        node, factor = queue.pop()
        name, above = kind(node), parents(node)
        if name in ("Add", "Sub") and above:
            queue.extend((parent, factor) for parent in above)
        elif name in SUMMING | {"Neg"} and len(above) == 1:
            queue.append((above[0], factor))
        elif name in ("Mul", "Div") and len(above) == 1:
            other = saved(node, "other")
            queue.append((above[0], math.nan if not other else factor * (other if name == "Mul" else 1 / other)))
        else:
            yield node, factor


def _term(node: Any, factor: float) -> Term:
    name = kind(node)
    if name == "Mean":
        return Term("mean", factor, 0, _entries(node))
    if name in LOSSES:
        summed = saved(node, "reduction") == SUM_REDUCTION
        given = parents(node)
        shape = size(given[0]) if given else ()
        averaged = math.prod(shape) if name not in ("NllLoss", "NllLoss2D", "NllLossNd") else 0
        return Term("sum" if summed else "mean", factor, _first(shape), averaged)
    if name == "Sum":
        shape = getattr(node, "_saved_self_sym_sizes", ())
        return Term("sum", factor, _first(tuple(shape)) if not size(node) else 0, math.prod(shape))
    return Term("other", factor, 0)


def _entries(node: Any) -> int:
    return math.prod(getattr(node, "_saved_self_sym_sizes", ())) if not size(node) else 0


def summed_beside_mean(root: Any) -> float:
    """How often a value that is summed over the batch counts in a loss, for each time that a value of a loss function
    beside it counts, which is averaged over the batch and more; 0 where there are no such two terms."""
    found = terms(root)
    means = [term for term in found if term.kind == "mean" and term.entries > term.rows > 1]
    sums = [term for term in found if term.kind == "sum" and any(term.rows == mean.rows for mean in means)]
    least = min((abs(mean.factor) / mean.entries for mean in means), default=0.0)
    most = max((abs(term.factor) for term in sums), default=0.0)
    return most / least if math.isfinite(most) and least > 0 else 0.0


def _first(shape: tuple[int, ...]) -> int:
    return shape[0] if shape else 0


def differences_in(root: Any) -> set[Any]:
    """Nodes of differences and products that the loss is made of: reached from it through operations that reduce or
    reshape errors into one number, not through a model."""
    passing = SUMMING | REARRANGING | frozenset(
        {"Add", "Neg", "Mean", "Sum", "Abs", "Pow", "Sqrt", "Mul", "Div", "Sub", "Rsub", "LinalgVectorNorm", "Norm",
         "LogCosh", "Where", "Clamp", "ClampMin", "ClampMax", "Log1P", "MaskedSelect", "MaskedFill", "Maximum",
         "Minimum", "Log", "Cosh", "Exp", "Tanh", "Relu", "Softplus", "LeakyRelu", "Logaddexp", "Logsumexp", "Addcmul"}
    )  # fmt: skip
    queue, seen = [root], {root}
    while queue and len(seen) < MOST_NODES:
        node = queue.pop()
        if kind(node) not in passing:
            continue
        for parent in parents(node):
            if parent not in seen:
                seen.add(parent)
                queue.append(parent)
    return {node for node in seen if kind(node) in ("Sub", "Mul", "Rsub")}
