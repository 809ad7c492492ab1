"""What becomes of an intermediate result, read off the autograd graph of one forward."""

from __future__ import annotations

from typing import Any

import torch

from auditor.probe.graph import kind_of, nodes

ACTIVATIONS = {
    "Relu": "relu",
    "LeakyRelu": "leaky_relu",
    "Gelu": "relu",
    "Silu": "relu",
    "Elu": "relu",
    "Softplus": "relu",
    "Mish": "relu",
    "Threshold": "relu",
    "Clamp": "relu",
    "ClampMin": "relu",
    "Hardtanh": "tanh",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
}
LAYERS = frozenset(
    {"Addmm", "Mm", "Bmm", "Baddbmm", "Convolution", "ConvolutionOverrideable", "MkldnnLinear", "Linear"}
)
PASSING = frozenset(
    {"View", "UnsafeView", "Reshape", "ReshapeAlias", "Squeeze", "Unsqueeze", "Permute", "Transpose", "T", "Clone",
     "NativeDropout", "FusedDropout", "Add", "ToCopy", "MaxPool2DWithIndices", "AvgPool2D", "AdaptiveAvgPool2D",
     "MkldnnMaxPool2D", "Mean", "AliasBackward", "Alias", "Slice", "Expand", "MaxPool1DWithIndices"}
)  # fmt: skip
PRODUCTS = frozenset({"Mul", "Bmm", "Lerp", "Addcmul"})
REARRANGED = (PASSING - {"Add"}) | {"Split", "SplitWithSizes", "Chunk", "Select", "Unbind", "Narrow", "Rsub", "Sub"}
FAR = 8  # operations that an activation is looked for behind


class Consumers:
    """Of every node on the way back from `roots`: which operations read its result."""

    def __init__(self, roots: tuple[torch.Tensor, ...]) -> None:
        self.all = nodes(roots)
        self._of: dict[Any, list[Any]] = {}
        for node in self.all:
            for following, _ in node.next_functions:
                if following is not None:
                    self._of.setdefault(following, []).append(node)

    def of(self, node: Any) -> list[Any]:
        return self._of.get(node, [])

    def activation(self, node: Any) -> str:
        """The activation function that this result goes into; '' for none before the next layer."""
        for _ in range(FAR):
            following = self.of(node)
            for candidate in following:
                found = ACTIVATIONS.get(kind_of(candidate))
                if found:
                    return found
            passing = [candidate for candidate in following if kind_of(candidate) in PASSING]
            if not passing:
                return ""
            node = passing[0]
        return ""

    def gates(self, node: Any) -> bool:
        """The result, or a part of it, is multiplied with another one: a gate, an attention weight, a factor of
        squeeze and excitation."""
        queue, seen = [node], {node}
        for current in queue:  # grows while it is read
            for following in self.of(current):
                kind = kind_of(following)
                if kind in PRODUCTS and _other(following, current):
                    return True
                if kind in REARRANGED and following not in seen:
                    seen.add(following)
                    queue.append(following)
        return False

    def reaches_layer(self, node: Any) -> bool:
        """A linear or convolutional layer reads it, directly or after further operations: it is inside the model."""
        queue, seen = [node], {node}
        for current in queue:  # grows while it is read
            for following in self.of(current):
                if kind_of(following) in LAYERS:
                    return True
                if following not in seen and len(seen) < 5000:
                    seen.add(following)
                    queue.append(following)
        return False

    def has_branches(self) -> bool:
        """Two results of layers are joined: residual connections, gates, weights of an attention."""
        inside = self._behind_layers()
        return any(
            (kind_of(node) in ("Add", "Cat") and sum(1 for each, _ in node.next_functions if each in inside) > 1)
            or (kind_of(node) in PRODUCTS and self._joins(node, inside))
            for node in self.all
        )

    def _joins(self, product: Any, inside: set[Any]) -> bool:
        """Its factors come from different layers; not so of x * sigmoid(x)."""
        origins = [_origins(each) for each, _ in product.next_functions if each in inside]
        return len(origins) > 1 and any(origin != origins[0] for origin in origins[1:])

    def _behind_layers(self) -> set[Any]:
        """Nodes whose result depends on that of a layer."""
        queue = [node for node in self.all if kind_of(node) in LAYERS]
        found = set(queue)
        for node in queue:  # grows while it is read
            for following in self.of(node):
                if following not in found:
                    found.add(following)
                    queue.append(following)
        return found


def _origins(node: Any) -> frozenset[Any]:
    """The nearest layers behind it."""
    queue, seen = [node], {node}
    found = set()
    for current in queue:  # grows while it is read
        if kind_of(current) in LAYERS:
            found.add(current)
            continue
        for following, _ in current.next_functions:
            if following is not None and following not in seen and len(seen) < 500:
                seen.add(following)
                queue.append(following)
    return frozenset(found)


def _other(product: Any, node: Any) -> bool:
    """The other factor depends on the graph too, or is the same result squared: no scaling by a constant."""
    others = [each for each, _ in product.next_functions if each is not None and each is not node]
    return bool(others)
