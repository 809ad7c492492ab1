"""What the autograd graph knows about a tensor: the operation that made it and the layer whose weight went into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from auditor.evidence import Location

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

# Operations that only rearrange: the producer behind them is the one that matters.
REARRANGING = frozenset(
    {"View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Permute", "Transpose", "T", "Clone", "Alias", "ToCopy",
     "Slice", "Select", "Expand", "ReshapeAlias", "Index", "Cat", "AsStrided", "UnsafeSplit", "Split", "Copy"}
)  # fmt: skip
MAX_NODES = 64


@dataclass(frozen=True)
class Producer:
    operation: str = ""
    layer: str = ""
    location: Location | None = None


def _kind(node: Any) -> str:
    return str(node.name()).removesuffix("Backward0").rstrip("0123456789")


def kind_of(node: Any) -> str:
    """'View' for a node called ViewBackward0."""
    return _kind(node).removesuffix("Backward")


def producing_node(tensor: torch.Tensor) -> Any:
    """The graph node of the operation that computed the tensor, views and copies looked through; None without one."""
    node: Any = tensor.grad_fn
    while node is not None and _kind(node).removesuffix("Backward") in REARRANGING and node.next_functions:
        node = node.next_functions[0][0]
    return node


def producer(tensor: torch.Tensor, probe: Probe) -> Producer:
    """The operation that computed the tensor, and the nearest layer upstream that owns a parameter."""
    return layer_behind(producing_node(tensor), probe)


def layer_behind(node: Any, probe: Probe) -> Producer:
    """The operation, and the nearest layer upstream of it that owns a parameter."""
    if node is None:
        return Producer()
    operation = str(node.name())
    parameter = _nearest_parameter(node)
    found = probe.program.parameter_layers().get(id(parameter)) if parameter is not None else None
    if found is None:
        return Producer(operation)
    return Producer(operation, found[0], probe.program.location_of(found[1]))


def _nearest_parameter(node: Any) -> torch.Tensor | None:
    """Breadth first, so that the closest weight wins."""
    queue, seen = [node], {node}
    for _ in range(MAX_NODES):
        if not queue:
            return None
        current = queue.pop(0)
        variable = getattr(current, "variable", None)
        if isinstance(variable, torch.Tensor):
            return variable
        for following, _index in current.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                queue.append(following)
    return None


def graph_leaves(roots: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    """Every leaf that a backward of `roots` would reach."""
    queue = [root.grad_fn for root in roots if root.grad_fn is not None]
    seen = set(queue)
    leaves: list[torch.Tensor] = []
    while queue:
        node = queue.pop()
        variable = getattr(node, "variable", None)
        if isinstance(variable, torch.Tensor):
            leaves.append(variable)
        for following, _index in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                queue.append(following)
    return leaves


def nodes(roots: tuple[torch.Tensor, ...], most: int = 100_000) -> list[Any]:
    """Every node that a backward of `roots` would visit, `most` of them at most."""
    queue = [root.grad_fn for root in roots if root.grad_fn is not None]
    seen = set(queue)
    for node in queue:  # grows while it is read
        if len(queue) >= most:
            break
        for following, _index in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                queue.append(following)
    return queue


def consumers(roots: tuple[torch.Tensor, ...]) -> dict[Any, int]:
    """node -> how many operations use its result, on the way to `roots`."""
    uses: dict[Any, int] = {}
    for node in nodes(roots):
        for following, _index in node.next_functions:
            if following is not None:
                uses[following] = uses.get(following, 0) + 1
    return uses
