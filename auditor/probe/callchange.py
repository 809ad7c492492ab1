"""Calls of torch's functions that do something else for the time of a replay: left out, given another argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch.overrides import TorchFunctionMode

from auditor.probe.operations import short_name

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

# The call's short name, the function, its positional and keyword arguments -> its result, or NotImplemented for what
# the function itself returns.
CallChange = Callable[[str, Any, tuple[Any, ...], dict[str, Any]], Any]


class ChangedCalls(TorchFunctionMode):
    """Every call goes through `change`. For replays alone: it costs time, and it is there to change results.

    `probe`: calls of its own stay as they are. None: all calls are changed, for calls of the model beside the loop.
    """

    def __init__(self, change: CallChange, probe: Probe | None) -> None:
        super().__init__()
        self._change = change
        self._probe = probe

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._probe is None or self._probe.alive():
            result = self._change(short_name(func), func, args, kwargs)
            if result is not NotImplemented:
                return result
        return func(*args, **kwargs)
