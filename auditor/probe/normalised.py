"""Values that are squashed twice on their way into a loss, and losses that are nothing but a raw output.

A sigmoid of a sigmoid, or a log-softmax of a softmax, is read off the autograd graph: it does not matter whether the
second one is a loss function of torch, a formula of the script, or a layer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from auditor.probe.graph import REARRANGING
from auditor.probe.lossgraph import SUMMING, kind, parents, saved, size
from auditor.probe.savedtensors import kept

SQUASHING = frozenset({"Sigmoid", "Softmax", "_SafeSoftmax"})
OUTER = SQUASHING | {"LogSoftmax", "Logsumexp", "LogSigmoid"}
CLAMPING = frozenset({"Clamp", "ClampMin", "ClampMax", "NanToNum"})
MOST_NODES = 200
FAR = 12

# From the loss down to what it was made of: operations on single values, sums and the choice of entries.
FORMULA = SUMMING | REARRANGING | CLAMPING | frozenset(
    {"Add", "Sub", "Rsub", "Neg", "Mean", "Sum", "Mul", "Div", "Abs", "Pow", "Sqrt", "Log", "Log1P", "Log2", "Exp",
     "Where", "MaskedSelect", "MaskedFill", "Gather", "Stack", "Maximum", "Minimum", "NllLoss", "NllLoss2D",
     "NllLossNd", "BinaryCrossEntropy", "MseLoss", "L1Loss", "KlDiv", "Xlogy"}
)  # fmt: skip
# Operations that make the raw output of a layer.
RAW = frozenset({"Addmm", "Mm", "Bmm", "Baddbmm", "Addbmm", "Convolution", "MkldnnLinear"})


@dataclass(frozen=True)
class Twice:
    """`inner` made the values that `outer` squashes again; both are nodes of the graph."""

    inner: Any
    outer: Any


def squasher(node: Any) -> Any:
    """The sigmoid or softmax that made these values, seen through views, copies, limits and flattening factors (a
    temperature of more than 1). None for any other maker: sharpened probabilities are another matter."""
    for _ in range(FAR):
        if node is None or kind(node) in SQUASHING:
            return node
        above, name = parents(node), kind(node)
        if len(above) != 1 or not (name in REARRANGING or name in CLAMPING or _flattens(node, name)):
            return None
        node = above[0]
    return None


def _flattens(node: Any, name: str) -> bool:
    if name not in ("Mul", "Div"):
        return False
    factor = saved(node, "other")
    return factor is not None and (0 < factor <= 1 if name == "Mul" else factor >= 1)


def squashed_twice(root: Any, inside: Collection[Any]) -> Iterator[Twice]:
    """Of the graph behind a loss. What lies `inside` a model is only looked at where it makes the loss's own input:
    further inside, gates and attention weights may well be made of one another."""
    queue: list[tuple[Any, bool]] = [(root, True)]
    seen = {root}
    while queue and len(seen) < MOST_NODES:
        node, near = queue.pop()
        name = kind(node)
        if name in OUTER:
            inner = next(filter(None, map(squasher, parents(node))), None)
            if inner is not None and (near or node not in inside):
                yield Twice(inner, node)
        elif name in FORMULA:
            # The first operation of the model that is met is its result; behind that, everything is inside.
            within = node in inside or (name == "Mul" and len(parents(node)) > 1 and not near)
            for parent in parents(node):
                if parent not in seen:
                    seen.add(parent)
                    queue.append((parent, near and not within))


def normalizer_of(node: Any) -> Any:
    """The log-softmax that made these values, or the softmax behind a logarithm (with an epsilon added); or None."""
    logarithm = False
    for _ in range(FAR):
        if node is None:
            return None
        name, above = kind(node), parents(node)
        if name == "LogSoftmax" or (logarithm and name in ("Softmax", "_SafeSoftmax")):
            return node
        passing = name in REARRANGING or name in CLAMPING or name == "Log" or (name == "Add" and logarithm)
        if len(above) != 1 or not passing:
            return None
        logarithm = logarithm or name == "Log"
        node = above[0]
    return None


def raw_output(root: Any) -> Any:
    """The layer whose chosen outputs are, but for constant factors, all that the loss consists of: without anything
    that normalises them, minus one output has no minimum. None for other losses."""
    node, chosen = root, False
    for _ in range(FAR):
        if node is None:
            return None
        name, above = kind(node), parents(node)
        if chosen and name in RAW:
            return node
        if len(above) != 1:
            return node if chosen and name in RAW else None
        chosen = chosen or name == "Gather" or (name == "Index" and _picks_entries(node))
        if not (name in SUMMING | REARRANGING or name in ("Neg", "Mean", "Sum", "Mul", "Div", "Gather")):
            return None
        node = above[0]
    return None


def _picks_entries(node: Any) -> bool:
    """One entry of every row: `logits[torch.arange(n), labels]`."""
    indices = kept(node, "indices")
    given = [index for index in indices if index is not None] if isinstance(indices, list | tuple) else []
    return len(given) > 1 and len(size(node)) == 1
