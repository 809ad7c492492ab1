"""Which operations cut the autograd graph: they take a tensor that requires a gradient and give one that does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from auditor.evidence import Location
from auditor.probe.batches import tensors
from auditor.probe.graph import graph_leaves
from auditor.probe.locate import user_location
from auditor.probe.operations import short_name

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

MOST = 400  # cuts that are written down
LEAVING = frozenset({"item", "tolist", "numpy", "__float__", "__int__", "__index__", "__array__"})  # to plain numbers
# Their results never carry a gradient, and hold nothing, or only the shape, of what they are given.
EMPTY = ("_like", "new_", "backward", "requires_grad", "grad", "zero_", "size", "is_", "dim", "numel", "register_")


@dataclass(frozen=True)
class Cut:
    operation: str
    location: Location | None
    leaves: frozenset[int]  # ids of the parameters behind it
    certain: bool  # the value went on as a tensor of numbers, not to a print or an index


class CutWatch(TorchFunctionMode):
    """For one replayed step, up to its first backward."""

    def __init__(self, probe: Probe) -> None:
        super().__init__()
        self._probe = probe
        self.cuts: list[Cut] = []
        self._entered = False

    def begin(self) -> None:
        self._entered = True
        self.__enter__()  # type: ignore[no-untyped-call]

    def end(self) -> None:
        if self._entered:
            self._entered = False
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self._watching():
            with self._probe.paused(), torch._C.DisableTorchFunctionSubclass():
                self._look(func, args, kwargs, result)
        return result

    def _watching(self) -> bool:
        probe = self._probe
        return (
            len(self.cuts) < MOST
            and probe.alive()
            and not probe.updating
            and not probe.loop.in_backward
            and not probe.loop.current.backwards
        )

    def _look(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        before = [tensor for tensor in tensors((args, kwargs)) if tensor.requires_grad]
        if not before:
            return
        after = list(tensors(result))
        if any(tensor.requires_grad for tensor in after):
            return
        name = _name(func)
        if not name or any(word in name for word in EMPTY):
            return
        if name not in LEAVING and not after:
            return
        certain = any(tensor.is_floating_point() for tensor in after)
        if certain and not torch.is_grad_enabled() and name not in ("detach", "data", "tensor"):
            name = "no_grad"
        self.cuts.append(Cut(name, user_location(), _leaves(before), certain))


def _name(func: Any) -> str:
    """'data' for the attribute of that name; '' for all other attributes."""
    name = short_name(func)
    if name != "__get__":
        return name
    attribute = getattr(getattr(func, "__self__", None), "__name__", "")
    return "data" if attribute == "data" else ""


def _leaves(found: list[torch.Tensor]) -> frozenset[int]:
    own = {id(tensor) for tensor in found if tensor.grad_fn is None}
    return frozenset(own | {id(leaf) for leaf in graph_leaves(tuple(found))})
