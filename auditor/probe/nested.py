"""How long the loops around the optimizer's step are, in scripts that cut their batches themselves.

`for epoch in range(10): for i in range(0, n, 50): ...` says how many steps an epoch has and how many epochs there are,
as a loader would. Read from the source and the values in force; nothing of the user's is called.
"""

from __future__ import annotations

import ast
import math
import sys
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch

from auditor.probe.epochs import RANGES, WRAPPING, loops_of, value_of
from auditor.probe.locate import is_users

DEPTH = 30  # frames


@dataclass(frozen=True)
class Around:
    """The user's loops around a call, the innermost first."""

    places: tuple[tuple[str, int], ...] = ()  # file and line of each
    lengths: tuple[int | None, ...] = ()  # None where it cannot be told

    @property
    def inner(self) -> int | None:
        return self.lengths[0] if self.lengths else None

    @property
    def outer(self) -> int | None:
        return self.lengths[1] if len(self.lengths) > 1 else None


def loops_around() -> Around:
    """Called, at any depth, from the user's loop."""
    frame: FrameType | None = sys._getframe(1)
    places: list[tuple[str, int]] = []
    lengths: list[int | None] = []
    for _ in range(DEPTH):
        if frame is None:
            break
        file, line, first = frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_firstlineno
        if is_users(file):
            around = [
                loop
                for loop in loops_of(file)
                if loop.lineno >= first and loop.body[0].lineno <= line <= (loop.body[-1].end_lineno or line)
            ]
            for loop in sorted(around, key=lambda loop: -loop.lineno):
                places.append((file, loop.lineno))
                lengths.append(None if isinstance(loop, ast.While) else _passes(loop.iter, frame))
        frame = frame.f_back
    return Around(tuple(places), tuple(lengths))


def _passes(node: ast.expr, frame: FrameType) -> int | None:
    """Of range(...), indices.split(n), a list of index tensors, also inside enumerate() and progress bars."""
    if isinstance(node, ast.Name):
        held = value_of(node, frame)
        indices = type(held) in (list, tuple) and held and all(map(_is_index, held))
        return len(held) if indices else None
    if not isinstance(node, ast.Call):
        return None
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in WRAPPING and node.args:
        return _passes(node.args[0], frame)
    if name in RANGES and 1 <= len(node.args) <= 3 and not (node.keywords and name == "range"):
        numbers = [value_of(argument, frame) for argument in node.args]
        try:
            return len(range(*numbers)) if all(type(number) is int for number in numbers) else None
        except (ValueError, OverflowError):
            return None
    if name in ("split", "chunk") and isinstance(node.func, ast.Attribute) and len(node.args) == 1:
        whole, by = _rows(node.func.value, frame), value_of(node.args[0], frame)
        if whole and type(by) is int and by > 0:
            return math.ceil(whole / by) if name == "split" else min(by, whole)
    return None


def _rows(node: ast.expr, frame: FrameType) -> int | None:
    """Of an index tensor by name, or of randperm(n) and arange(n)."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
        rows = value_of(node.args[0], frame) if node.func.attr in ("randperm", "arange") else None
        return rows if type(rows) is int and len(node.args) == 1 else None
    held = value_of(node, frame) if isinstance(node, ast.Name | ast.Attribute) else None
    return int(held.shape[0]) if isinstance(held, torch.Tensor) and _is_index(held) else None


def _is_index(held: Any) -> bool:
    return isinstance(held, torch.Tensor) and held.dim() == 1 and not held.is_floating_point()
