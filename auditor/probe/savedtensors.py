"""What an operation keeps for its backward, read only where reading runs nothing.

Under saved-tensor hooks, those of activation checkpointing among them, a kept tensor is made anew when it is asked for:
the checkpointed part of the model runs once more, and its running statistics move.
"""

from __future__ import annotations

from typing import Any

_hooked = False


def hooks_entered() -> None:
    """The script has begun to pack what its operations keep. From now on kept tensors are left alone."""
    global _hooked
    _hooked = True


def kept(node: Any, name: str) -> Any:
    """`node._saved_<name>`; None where there is no such thing, or where to read it may run code."""
    if _hooked and hasattr(node, f"_raw_saved_{name}"):
        return None
    return getattr(node, f"_saved_{name}", None)
