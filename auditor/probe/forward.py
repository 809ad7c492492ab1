"""Module calls: which is the outermost one of a trained model, and which module is running now."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from auditor.probe.program import WRAPPERS

if TYPE_CHECKING:
    from auditor.probe.probe import Probe


class ForwardCalls:
    """Follows the nesting of module calls. `quiet` turns all but the roots off, for the steps in between samples."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._others: set[int] = set()
        self.root_ids: set[int] = set()
        self.stack: list[nn.Module] = []
        self.quiet = False
        self.inside_root = 0
        self.follows_layers = False  # in a root's training forward of a step for which a collector asks for them
        self.order: dict[int, int] = {}  # id(module) -> place in the order of first calls

    def forget_others(self) -> None:
        """Modules that were no roots may have become ones: a new optimizer holds other parameters."""
        self._others.clear()
        self.quiet = False

    def call(
        self, original: Callable[..., Any], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        probe = self._probe
        # Gradient checkpointing calls modules again during backward: not a forward of the user's.
        if not probe.alive() or probe.loop.in_backward:
            return original(module, *args, **kwargs)
        root = not self.stack and self._is_root(module)
        self.order.setdefault(id(module), len(self.order))
        self.stack.append(module)
        try:
            if not root:
                result = original(module, *args, **kwargs)
                if self.follows_layers:
                    probe.layer_forwarded(module, args, result)
                elif not self.inside_root:
                    probe.outside_forwarded(module, args, result)
                return result
            args, kwargs = probe.root_forward(module, args, kwargs)
            self.inside_root += 1
            self.follows_layers = probe.following_layers()
            try:
                with probe.watching_operations():
                    result = original(module, *args, **kwargs)
            finally:
                self.inside_root -= 1
                self.follows_layers = False
            probe.root_forwarded(module, result)
            return result
        finally:
            self.stack.pop()

    def _is_root(self, module: nn.Module) -> bool:
        key = id(module)
        if key in self.root_ids:
            return True
        if key in self._others:
            return False
        if self._probe.program.is_trained(module):
            self.root_ids.add(key)
            inner = getattr(module, "module", None)
            if isinstance(inner, nn.Module) and type(module).__name__ in WRAPPERS:
                self.root_ids.add(id(inner))  # evaluation often calls what is wrapped
            return True
        self._others.add(key)
        self._probe.companion_called(module)
        return False


def gradients_wanted() -> bool:
    return torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
