"""Replacing attributes of a class without making it a sequence.

A `__getitem__` in Python makes a type a sequence for C, and taking it away again does not undo that: then
`torch.tensor([loss])` asks a scalar for its length, and fails. So the slot that tells is emptied again. Subscripts go
by another one, that of mappings.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_METHODS = object.__basicsize__ + 11 * ctypes.sizeof(ctypes.c_void_p)  # tp_as_sequence in PyTypeObject
_ITEM = 3  # sq_item in PySequenceMethods


def put(owner: Any, name: str, value: Any) -> None:
    """`setattr`, after which C takes the owner for a sequence only if it did before."""
    before = _is_sequence(owner, name)
    setattr(owner, name, value)
    if not before:
        _no_sequence(owner)


def inherit(owner: Any, name: str) -> None:
    """`delattr`, likewise."""
    before = _is_sequence(owner, name)
    delattr(owner, name)
    if not before:
        _no_sequence(owner)


def _is_sequence(owner: Any, name: str) -> bool:
    """True as well where it is of no account."""
    if not isinstance(owner, type) or name != "__getitem__" or sys.implementation.name != "cpython":
        return True
    methods = _methods(owner)
    return methods is None or bool(methods[_ITEM])


def _no_sequence(owner: type) -> None:
    for each in {owner, *type.__subclasses__(owner)}:
        methods = _methods(each)
        if methods is not None:
            methods[_ITEM] = None
        if each is not owner:
            _no_sequence(each)


def _methods(owner: type) -> Any:
    pointers = ctypes.POINTER(ctypes.c_void_p)
    found = ctypes.cast(id(owner) + _METHODS, pointers)[0]
    return ctypes.cast(found, pointers) if found else None
