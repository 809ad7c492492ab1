"""Autograd graphs of earlier steps that something in the script keeps alive.

A token is put into the metadata of a graph's last node, which dies with the node: as long as the token is there, so is
the graph. No tensor is held, and nothing is computed.
"""

from __future__ import annotations

import linecache
import mmap
import os
import re
import sys
import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import FrameType
from typing import Any, Literal

import torch
from torch import nn

from auditor.evidence import Location, RetainedGraphs
from auditor.probe.batches import tensors
from auditor.probe.collect import Collector, Unavailable
from auditor.probe.locate import is_users, user_location
from auditor.probe.steps import StepSeen

AGE = 2  # steps after which a graph should be gone: the variables of a loop live until they are assigned again
PAGE = mmap.PAGESIZE
NODES = 5000  # of a graph that is walked
SEARCHES = 3
KEY = "auditor"


class _Token:
    """Lives as long as the graph node in whose metadata it lies."""

    __slots__ = ("__weakref__", "step")

    def __init__(self, step: int) -> None:
        self.step = step


class RetainedGraphsCollector(Collector):
    name = "retained_graphs"

    def __init__(self, probe: Any) -> None:
        super().__init__(probe)
        self._tokens: list[weakref.ref[_Token]] = []
        self._alive: list[int] = []
        self._nodes = 0
        self._memory: list[int] = []
        self._searches = 0
        self._device: torch.device | None = None
        self._found: tuple[str, Literal["", "tensor", "collection"], Location | None] = ("", "", None)
        self._backward_location: Location | None = None

    def backward_begins(self, roots: tuple[torch.Tensor, ...]) -> None:
        for root in roots:
            self._mark(root)
        if self._nodes == 0 and roots[0].grad_fn is not None:
            self._nodes = sum(1 for _ in _graph(roots[0].grad_fn))
            self._device = roots[0].device

    def forwarded(self, module: nn.Module, result: Any) -> None:
        first = next((tensor for tensor in tensors(result) if tensor.grad_fn is not None), None)
        if first is not None:
            self._mark(first)

    def _mark(self, tensor: torch.Tensor) -> None:
        node: Any = tensor.grad_fn
        if node is not None:
            metadata = node.metadata
            if KEY not in metadata:
                metadata[KEY] = token = _Token(self.step)
                self._tokens.append(weakref.ref(token))

    def step_ended(self, step: StepSeen) -> None:
        self._tokens = [token for token in self._tokens if token() is not None]
        old = {token.step for token in (ref() for ref in self._tokens) if token and token.step <= self.step - AGE}
        if len(old) >= max(self._alive, default=0) and len(old) > 8:
            self._search()
        self._alive.append(len(old))
        self._memory.append(_memory(self._device))
        if self._backward_location is None and step.backwards:
            self._backward_location = step.backwards[0].location

    def _search(self) -> None:
        """In the variables of the user's frames, which are all on the stack now."""
        if self._found[0] or self._searches >= SEARCHES:
            return
        self._searches += 1
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if is_users(frame.f_code.co_filename):
                for name, value in list(frame.f_locals.items()):
                    kind = _holds(value, self.step)
                    if kind:
                        self._found = (name, kind, _place(frame, name))
                        return
                    for inner, held in list(vars(value).items()) if _is_plain_object(value) else ():
                        kind = _holds(held, self.step)
                        if kind:
                            self._found = (f"{name}.{inner}", kind, _place(frame, inner))
                            return
            frame = frame.f_back

    def part(self) -> RetainedGraphs:
        if not self._alive:
            raise Unavailable("no training step was complete", "inconclusive")
        holder, kind, location = self._found
        return RetainedGraphs(
            alive=tuple(self._alive),
            nodes=self._nodes,
            memory=tuple(self._memory) if all(self._memory) else (),
            device=self._device.type if self._device is not None else "cpu",
            holder=holder,
            holder_kind=kind,
            location=location,
            backward_location=self._backward_location,
        )


def _is_plain_object(value: Any) -> bool:
    """An object whose attributes may hold something: no module, whose own variables are looked at elsewhere."""
    return hasattr(value, "__dict__") and not isinstance(value, type | torch.Tensor | type(sys))


def _place(frame: FrameType, name: str) -> Location | None:
    """The first line of the frame's file that adds to the variable, else the line that runs."""
    file = frame.f_code.co_filename
    grows = re.compile(
        rf"\b{re.escape(name)}\b(\[[^\]]*\])?\s*(\.(append|extend|add|put)\(|\+=|=\s*.*\b{re.escape(name)}\b\s*\+)"
    )
    for number, line in enumerate(linecache.getlines(file), 1):
        if grows.search(line):
            return Location(file=os.path.abspath(file), line=number)
    return user_location()


def _holds(value: Any, step: int) -> Literal["", "tensor", "collection"]:
    """Whether a variable holds graphs of several earlier steps."""
    if isinstance(value, torch.Tensor):
        return "tensor" if _old_steps([value], step) > 2 else ""
    items: Iterable[Any] = ()
    with suppress(Exception):  # a container of the user's own class may do anything
        if isinstance(value, list | tuple | deque | set):
            items = list(value)[-64:]
        elif isinstance(value, Mapping):
            items = [
                item for entry in list(value.values())[-64:] for item in (entry if type(entry) is list else [entry])
            ]
    held = [tensor for item in items for tensor in tensors(item) if tensor.grad_fn is not None]
    return "collection" if held and _old_steps(held[:64], step) > 2 else ""


def _old_steps(held: list[torch.Tensor], step: int) -> int:
    """Distinct earlier steps whose tokens lie in the graphs of these tensors."""
    found: set[int] = set()
    visited: set[Any] = set()
    for tensor in held:
        for node in _graph(tensor.grad_fn, visited):
            token = node.metadata.get(KEY)
            if isinstance(token, _Token) and token.step <= step - AGE:
                found.add(token.step)
        if len(found) > 2:
            break
    return len(found)


def _graph(root: Any, visited: set[Any] | None = None) -> Iterable[Any]:
    visited = set() if visited is None else visited
    queue = [root]
    while queue and len(visited) < NODES:
        node = queue.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        yield node
        queue.extend(following for following, _ in node.next_functions)


def _memory(device: torch.device | None) -> int:
    """Bytes allocated on the device, else resident in this process; 0 where that cannot be told."""
    if device is not None and device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    try:
        statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(os.read(statm, 256).split()[1]) * PAGE
        finally:
            os.close(statm)
    except (OSError, ValueError, IndexError):
        return 0
