"""Replacing a function or method by one that calls it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from auditor.probe.slots import put

_REPLACED: list[tuple[Any, str, Any, Any]] = []  # owner, name, original, ours


def replace(owner: Any, name: str, ours: Callable[..., Any]) -> None:
    """Put `ours` at `owner.name`."""
    original = vars(owner).get(name, getattr(owner, name))  # a class method as such, not bound to its class
    _REPLACED.append((owner, name, original, ours))
    put(owner, name, ours)


def wrap(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace `owner.name` by `make(original)`, which keeps the original's name, signature and documentation."""
    original = getattr(owner, name)
    replace(owner, name, functools.wraps(original)(make(original)))


@contextmanager
def originals() -> Iterator[None]:
    """Torch as it came, inside: for measuring what the taps cost."""
    for owner, name, original, _ in reversed(_REPLACED):
        put(owner, name, original)
    try:
        yield
    finally:
        for owner, name, _, ours in _REPLACED:
            put(owner, name, ours)
