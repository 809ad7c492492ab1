"""How many passes over its loader the user's loop says that it will make: the range() around the `for` statement that
asks for the batches."""

from __future__ import annotations

import ast
import linecache
import sys
import types
from functools import lru_cache
from types import FrameType
from typing import Any

import torch

from auditor.probe.locate import is_users

RANGES = ("range", "trange", "prange")
WRAPPING = ("tqdm", "track", "progress_bar", "enumerate", "master_bar")


@lru_cache(maxsize=64)
def loops_of(file: str) -> tuple[ast.For | ast.AsyncFor | ast.While, ...]:
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError, RecursionError):
        return ()
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.For | ast.AsyncFor | ast.While))


def passes_over_the_loader() -> int | None:
    """Called while a `for` statement of the user's asks a loader for a batch. None where its number of passes cannot be
    read off, also for next(iterator), around which a loop runs over steps."""
    frame: FrameType | None = sys._getframe(1)
    asking = True  # the frame that holds the `for` over the loader is not found yet
    while frame is not None:
        file, line = frame.f_code.co_filename, frame.f_lineno
        if is_users(file):
            loops = loops_of(file)
            if asking:
                if not any(_in_header(loop, line) for loop in loops if isinstance(loop, ast.For)):
                    return None
                asking = False
            around = [loop for loop in loops if _contains(loop, line) and loop.lineno >= frame.f_code.co_firstlineno]
            if around:
                inner = max(around, key=lambda loop: loop.lineno)
                return _length(inner.iter, frame) if isinstance(inner, ast.For) else None
        frame = frame.f_back
    return None


def _in_header(loop: ast.For, line: int) -> bool:
    return loop.lineno <= line <= (loop.iter.end_lineno or loop.lineno)


def _contains(loop: ast.For | ast.AsyncFor | ast.While, line: int) -> bool:
    """In its body: its own header belongs to what is around it."""
    return loop.body[0].lineno <= line <= (loop.end_lineno or loop.lineno)


def _length(node: ast.expr, frame: FrameType) -> int | None:
    """Of range(...), bare or wrapped in a progress bar."""
    if not isinstance(node, ast.Call):
        return None
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in WRAPPING and node.args:
        return _length(node.args[0], frame)
    if name not in RANGES or (node.keywords and name == "range") or not 1 <= len(node.args) <= 3:
        return None
    values = [value_of(argument, frame) for argument in node.args]
    if not all(type(value) is int for value in values):
        return None
    try:
        return len(range(*values))
    except (ValueError, OverflowError):
        return None


def value_of(node: ast.expr, frame: FrameType) -> Any:
    """A name, an attribute or simple arithmetic; nothing of the user's is called."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return frame.f_locals.get(node.id, frame.f_globals.get(node.id))
    if isinstance(node, ast.Attribute):
        return _attribute(value_of(node.value, frame), node.attr)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        if isinstance(node.value, ast.Attribute) and node.value.attr == "shape":
            return _extent(value_of(node.value.value, frame), node.slice.value)
        holder = value_of(node.value, frame)
        return holder.get(node.slice.value) if type(holder) is dict else None
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "len" and len(node.args) == 1:
        held = value_of(node.args[0], frame)
        return held.shape[0] if isinstance(held, torch.Tensor) and held.dim() else _size(held)
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "size" and len(node.args) == 1:
        assert isinstance(node.func, ast.Attribute)
        return _extent(value_of(node.func.value, frame), value_of(node.args[0], frame))
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "int" and len(node.args) == 1:
        value = value_of(node.args[0], frame)
        return int(value) if type(value) in (int, float) and abs(value) < 1e12 else None
    if isinstance(node, ast.BinOp):
        left, right = value_of(node.left, frame), value_of(node.right, frame)
        if type(left) is int and type(right) is int:
            if isinstance(node.op, ast.Add):
                return left + right
            if isinstance(node.op, ast.Sub):
                return left - right
            if isinstance(node.op, ast.Mult):
                return left * right
            if isinstance(node.op, ast.FloorDiv) and right > 0:
                return left // right
    return None


def _size(held: Any) -> int | None:
    """Of a plain container: a class of the user's may count in any way."""
    return len(held) if type(held) in (list, tuple, dict, range, str) else None


def _extent(held: Any, axis: Any) -> int | None:
    known = isinstance(held, torch.Tensor) and type(axis) is int and -held.dim() <= axis < held.dim()
    return int(held.shape[axis]) if known else None


def _attribute(holder: Any, name: str) -> Any:
    """Stored ones only: a property would run code."""
    if isinstance(holder, types.ModuleType):
        return vars(holder).get(name)
    try:
        stored = object.__getattribute__(holder, "__dict__")
    except AttributeError:
        stored = {}
    if type(stored) is dict and name in stored:
        return stored[name]
    for kind in type.mro(holder) if isinstance(holder, type) else type(holder).__mro__:
        if type(vars(kind).get(name)) is int:
            return vars(kind)[name]
    return None
