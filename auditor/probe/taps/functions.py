"""The user's own autograd functions: what they are applied to."""

from __future__ import annotations

from typing import Any

from torch.autograd import Function

from auditor.probe.probe import Probe
from auditor.probe.taps.patching import replace


def install(probe: Probe) -> None:
    original = vars(Function)["apply"].__func__

    def apply(kind: type[Function], *args: Any, **kwargs: Any) -> Any:
        if probe.observing and not kwargs and probe.alive():
            probe.function_applied(kind, args)
        return original(kind, *args, **kwargs)

    replace(Function, "apply", classmethod(apply))  # type: ignore[arg-type]
