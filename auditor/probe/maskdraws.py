"""Dropout that is written by hand: a mask of zeros and ones, drawn with a constant share, times hidden states that are
divided by that share. Followed from operation to operation, within one forward that is watched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

UNIFORM = frozenset({"rand", "rand_like", "uniform"})
BERNOULLI = frozenset({"bernoulli"})
BELOW, ABOVE = frozenset({"lt", "le", "less", "less_equal"}), frozenset({"gt", "ge", "greater", "greater_equal"})
TIMES, OVER = frozenset({"mul", "rmul", "imul", "multiply"}), frozenset({"div", "truediv", "itruediv", "divide"})
PLUS = frozenset({"add", "radd", "iadd"})
SAME = frozenset(
    {"to", "float", "double", "half", "bfloat16", "type", "type_as", "bool", "int", "view", "reshape", "unsqueeze",
     "expand", "expand_as", "getitem", "squeeze", "clone", "contiguous", "detach", "transpose", "permute"}
)  # fmt: skip
NOT = frozenset({"logical_not", "invert", "bitwise_not"})
TOLERANCE = 1e-3  # of the product of share and factor, which is 1 in dropout


@dataclass(frozen=True)
class _Known:
    """What is known of a tensor."""

    kind: str  # 'uniform' numbers, a 'mask', states that were 'scaled' or 'dropped'
    tensor: torch.Tensor  # held, so that no other one gets its id
    draw: Any = None
    share: float = 0.0  # of a mask: that is kept; of uniform numbers: what was added
    factor: float = 1.0


class DrawnMasks:
    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}
        self._dropped: dict[int, _Known] = {}  # id(draw) -> the latest state of what it was multiplied with

    def note(self, name: str, args: Any, result: Any, draw: Any) -> None:
        """An operation has returned; `draw`: what it drew, None for one that draws nothing."""
        if not isinstance(result, torch.Tensor):
            return
        known = self._made(name.strip("_"), args, result, draw)
        if known is not None:
            self._known[id(result)] = known
            if known.kind == "dropped":
                self._dropped[id(known.draw)] = known
        elif id(result) in self._known and name.endswith("_"):
            del self._known[id(result)]  # changed in place, in another way

    def is_dropout(self, draw: Any) -> bool:
        found = self._dropped.get(id(draw))
        return found is not None and 0 < found.share < 1 and abs(found.share * found.factor - 1) < TOLERANCE

    def _made(self, name: str, args: Any, result: torch.Tensor, draw: Any) -> _Known | None:
        if draw is not None:
            return _drawn(name, args, result, draw)
        given = [self._known.get(id(each)) for each in args if isinstance(each, torch.Tensor)]
        numbers = [float(each) for each in args if isinstance(each, int | float) and not isinstance(each, bool)]
        first = given[0] if given else None
        if len(given) == 2 and name in TIMES:
            return _multiplied(given, args, result)
        if name not in SAME and (len(given) != 1 or len(args) > 2):
            return None
        if len(numbers) == 1 and name in TIMES | OVER and numbers[0]:
            before = first or _Known("scaled", result)
            factor = numbers[0] if name in TIMES else 1 / numbers[0]
            return replace(before, tensor=result, factor=before.factor * factor) if before.kind != "uniform" else None
        if first is None:
            return None
        return _compared(first, name, numbers, result)


def _drawn(name: str, args: Any, result: torch.Tensor, draw: Any) -> _Known | None:
    if name in UNIFORM:
        return _Known("uniform", result, draw)
    if name not in BERNOULLI or not args:
        return None
    share = args[1] if len(args) > 1 else args[0]
    if isinstance(share, torch.Tensor):
        constant = share.numel() > 0 and bool((share == share.reshape(-1)[0]).all())
        share = float(share.reshape(-1)[0]) if constant and share.is_floating_point() else None
    return _Known("mask", result, draw, float(share)) if isinstance(share, int | float) else None


def _compared(known: _Known, name: str, numbers: list[float], result: torch.Tensor) -> _Known | None:
    """What becomes of drawn numbers, or of a mask."""
    if known.kind == "uniform":
        if name in BELOW and len(numbers) == 1 and not known.share:
            return replace(known, kind="mask", tensor=result, share=numbers[0])
        if name in ABOVE and len(numbers) == 1 and not known.share:
            return replace(known, kind="mask", tensor=result, share=1 - numbers[0])
        if name in PLUS and len(numbers) == 1:
            return replace(known, tensor=result, share=known.share + numbers[0])
        if name == "floor" and 0 < known.share < 1:
            return replace(known, kind="mask", tensor=result)
        return None
    if known.kind == "mask" and name in NOT:
        return replace(known, tensor=result, share=1 - known.share)
    return replace(known, tensor=result) if known.kind == "mask" and name in SAME else None


def _multiplied(given: list[_Known | None], args: Any, result: torch.Tensor) -> _Known | None:
    masks = [each for each in given if each is not None and each.kind == "mask"]
    states = next((each for each in given if each is None or each.kind == "scaled"), masks[0] if masks else None)
    if len(masks) != 1 or states is masks[0] or not result.is_floating_point() or result.dim() < 2:
        return None
    factor = masks[0].factor * (states.factor if states is not None else 1.0)
    return replace(masks[0], kind="dropped", tensor=result, factor=factor)
