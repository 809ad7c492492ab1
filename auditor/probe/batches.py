"""Batches as loops use them: tensors nested in tuples, lists, dicts and the like. Copying, measuring, tiling."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import torch

MAX_DEPTH = 8


def map_tensors(value: Any, change: Callable[[torch.Tensor], torch.Tensor], depth: int = 0) -> Any:
    """The same structure with every tensor changed; objects of unknown kinds are kept as they are."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if depth > MAX_DEPTH:
        return value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(item, change, depth + 1) for item in value))
    if isinstance(value, tuple | list) and type(value) in (tuple, list):
        return type(value)(map_tensors(item, change, depth + 1) for item in value)
    if type(value) is dict:
        return {key: map_tensors(item, change, depth + 1) for key, item in value.items()}
    if isinstance(value, Mapping) and hasattr(value, "data") and isinstance(getattr(value, "data", None), dict):
        twin = copy.copy(value)  # UserDict-like: BatchEncoding and friends
        twin.data = {key: map_tensors(item, change, depth + 1) for key, item in value.items()}
        return twin
    if _is_record(value):
        twin = copy.copy(value)
        for name, item in _fields(value).items():
            object.__setattr__(twin, name, map_tensors(item, change, depth + 1))  # frozen ones too
        return twin
    return value


def _is_record(value: Any) -> bool:
    """An object that is nothing but named fields."""
    return isinstance(value, SimpleNamespace) or (dataclasses.is_dataclass(value) and not isinstance(value, type))


def _fields(value: Any) -> dict[str, Any]:
    if isinstance(value, SimpleNamespace):
        return dict(vars(value))
    return {each.name: getattr(value, each.name) for each in dataclasses.fields(value) if hasattr(value, each.name)}


def tensors(value: Any, depth: int = 0) -> Iterator[torch.Tensor]:
    """Every tensor of the structure, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif depth <= MAX_DEPTH:
        if isinstance(value, tuple | list):
            for item in value:
                yield from tensors(item, depth + 1)
        elif isinstance(value, Mapping):
            for item in value.values():
                yield from tensors(item, depth + 1)
        elif _is_record(value):
            for item in _fields(value).values():
                yield from tensors(item, depth + 1)


def is_transparent(value: Any) -> bool:
    """True when `tensors` sees at least one tensor, so that copies are real copies."""
    return next(tensors(value), None) is not None


def clone(value: Any) -> Any:
    """A copy that later in-place changes do not reach; tensors are detached from any graph."""
    try:
        if is_transparent(value):
            return map_tensors(value, lambda tensor: tensor.detach().clone())
        return copy.deepcopy(value)
    except Exception:  # classes of the user's own may refuse to be copied
        return value


def size_bytes(value: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors(value))


def equal(left: Any, right: Any) -> bool:
    """Bit-equal tensors in the same structure."""
    ours, theirs = list(tensors(left)), list(tensors(right))
    return len(ours) == len(theirs) and all(
        a.shape == b.shape and a.dtype == b.dtype and a.layout == b.layout and _same(a, b)
        for a, b in zip(ours, theirs, strict=True)
    )


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.layout == torch.strided:
        return torch.equal(a, b)
    if a.layout != torch.sparse_coo:
        return False
    a, b = a.coalesce(), b.coalesce()
    return torch.equal(a.indices(), b.indices()) and torch.equal(a.values(), b.values())


def batch_dimension(value: Any, expected: int | None = None) -> int | None:
    """The batch size, when every tensor with dimensions agrees on its first one; None where that is not so.

    Flattened, packed or time-first batches disagree and must not be tiled: rows would lose their partners.
    """
    found = list(tensors(value))
    if any(tensor.layout != torch.strided for tensor in found):
        return None
    sizes = {tensor.shape[0] for tensor in found if tensor.dim() > 0}
    if len(sizes) != 1:
        return None
    size = sizes.pop()
    if expected is not None and size > expected:
        return None
    return size


def tile(value: Any, samples: int) -> Any:
    """The first `samples` rows of every tensor, repeated up to the original number of rows."""

    def repeat(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() == 0:
            return tensor
        rows = torch.arange(tensor.shape[0], device=tensor.device) % samples
        return tensor[rows]

    return map_tensors(value, repeat)


def substitute(live: Any, recorded: Any, depth: int = 0) -> Any:
    """`live` with its tensors replaced by the recorded ones of the same place, shape and dtype.

    Tensors that carry a graph stay: replacing them would cut the user's own computation.
    """
    if isinstance(live, torch.Tensor):
        fits = isinstance(recorded, torch.Tensor) and live.shape == recorded.shape and live.dtype == recorded.dtype
        return recorded.clone() if fits and not live.requires_grad else live
    if depth > MAX_DEPTH or type(live) is not type(recorded):
        return live
    if isinstance(live, tuple) and hasattr(live, "_fields"):
        return type(live)(*(substitute(a, b, depth + 1) for a, b in zip(live, recorded, strict=True)))
    if type(live) in (tuple, list) and len(live) == len(recorded):
        return type(live)(substitute(a, b, depth + 1) for a, b in zip(live, recorded, strict=True))
    if type(live) is dict:
        return {key: substitute(item, recorded.get(key), depth + 1) for key, item in live.items()}
    if _is_record(live):
        twin, kept = copy.copy(live), _fields(recorded)
        for name, item in _fields(live).items():
            object.__setattr__(twin, name, substitute(item, kept.get(name), depth + 1))
        return twin
    return live
