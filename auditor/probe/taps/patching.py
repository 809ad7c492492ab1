"""Replacing a function or method by one that calls it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def wrap(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace `owner.name` by `make(original)`, which keeps the original's name, signature and documentation."""
    original = getattr(owner, name)
    setattr(owner, name, functools.wraps(original)(make(original)))
