"""Watching single operations of a forward pass, in the few steps where that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode, resolve_name

from auditor.evidence import Location
from auditor.probe.batches import tensors
from auditor.probe.locate import user_location

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

RECTIFIERS = frozenset({"relu", "relu_", "relu6", "threshold", "threshold_", "clamp_min", "clamp_min_"})
NORMALIZERS = frozenset({"softmax", "log_softmax"})
BOUNDED = frozenset({"sigmoid", "sigmoid_", "tanh", "tanh_", "softplus", "hardtanh", "hardtanh_", "exp", "abs"})


def short_name(function: Any) -> str:
    name = getattr(function, "__name__", "")
    if name in ("", "wrapper", "fn"):
        name = (resolve_name(function) or "").rpartition(".")[2]
    return name


class OperationWatch(TorchFunctionMode):
    """Reports outputs of rectifiers, of softmax and of other operations with a bounded result. Computes nothing else:
    the step's own numbers stay as they are."""

    def __init__(self, report: Callable[[str, torch.Tensor], None], probe: Probe) -> None:
        super().__init__()
        self._report = report
        self._probe = probe

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = short_name(func)
        watched = name in NORMALIZERS or name in BOUNDED or _is_rectifier(name, args, kwargs or {})
        if watched and isinstance(result, torch.Tensor) and self._probe.alive():
            with self._probe.paused():
                self._report(name, result)
        return result


def _is_rectifier(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
    if name in ("clamp", "clamp_", "clip"):
        low = kwargs.get("min", args[1] if len(args) > 1 else None)
        high = kwargs.get("max", args[2] if len(args) > 2 else None)
        return high is None and isinstance(low, int | float) and low == 0
    if name in ("clamp_min", "clamp_min_"):
        return bool(len(args) > 1 and isinstance(args[1], int | float) and args[1] == 0)
    return name in RECTIFIERS


class FiniteCheck(TorchFunctionMode):
    """Finds the first operation whose result is not finite though its inputs were. For replays: it synchronises."""

    def __init__(self, probe: Probe) -> None:
        super().__init__()
        self._probe = probe
        self.operation = ""
        self.location: Location | None = None
        self.module: torch.nn.Module | None = None
        self.direction = ""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.operation or not self._probe.alive():
            return func(*args, **kwargs)
        inputs = list(tensors((args, kwargs)))  # without any, as torch.tensor(nan), it is no operation's fault
        finite_before = bool(inputs) and all(_finite(tensor) for tensor in inputs)
        result = func(*args, **kwargs)
        if finite_before and not all(_finite(tensor) for tensor in tensors(result)):
            name = short_name(func)
            if name not in ("__get__", "masked_fill", "masked_fill_", "full", "full_like", "triu", "tril", "where"):
                self.operation, self.direction = name, "forward"
                self.location = user_location()
                self.module = self._probe.calls.stack[-1] if self._probe.calls.stack else None
        return result

    def found_in_backward(self, function: str, line: tuple[str, int] | None) -> None:
        self.operation, self.direction = function, "backward"
        if line is not None:
            self.location = Location(file=line[0], line=line[1])


def _finite(tensor: torch.Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.is_meta:
        return True
    with torch._C.DisableTorchFunctionSubclass(), torch.no_grad():
        return bool(torch.isfinite(tensor).all())
