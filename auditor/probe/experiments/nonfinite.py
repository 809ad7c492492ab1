"""Replay up to the first non-finite value, with every operation checked, to name the one that made it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from auditor.probe.experiments.feasible import choose_feeding, order, require_rewindable
from auditor.probe.replay import Experiment, NotRun, Replay

if TYPE_CHECKING:
    from auditor.probe.operations import FiniteCheck
    from auditor.probe.probe import Probe

_FUNCTION = re.compile(r"Function '(\w+)' returned nan")
_SOURCE = re.compile(r'File "([^"]+)", line (\d+)')


def trace_nonfinite(probe: Probe) -> Experiment:
    """Re-sends the part `nonfinite` with the operation, if the replay finds it."""
    require_rewindable(probe)
    choose_feeding(probe)
    seen = probe.nonfinite_part()
    if seen is None or seen.first_step is None:
        raise NotRun("every observed loss and gradient was finite", "not-applicable")
    steps = seen.first_step + 1
    trail = yield Replay(steps=steps, label="trace", order=order(probe), check_operations=True)
    check = trail.check
    if check is None or not check.operation:
        return seen
    names = probe.program.module_names()
    layer = names.get(id(check.module), "") if check.module is not None else ""
    return seen.model_copy(
        update={
            "operation": check.operation,
            "direction": check.direction,
            "layer": layer,
            "location": check.location or seen.location,
            "traced": True,
        }
    )


def set_anomaly_mode(on: bool) -> None:
    """torch's own search for NaN in backward; it remembers where each operation was called in the forward."""
    torch.autograd.set_detect_anomaly(on, check_nan=True)


def backward_with_check(original: Callable[[], None], check: FiniteCheck) -> None:
    """Run backward under torch's anomaly mode; what it finds goes into the check, and the loop goes on."""
    if check.operation:  # found already: what backward makes of it is no news
        set_anomaly_mode(False)
        original()
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            original()
        except RuntimeError as error:
            match = _FUNCTION.search(str(error))
            if match is None:
                raise
            check.found_in_backward(match[1], _user_line([str(entry.message) for entry in caught]))


def _user_line(messages: list[str]) -> tuple[str, int] | None:
    """The innermost user line of the forward traceback that anomaly mode prints as a warning."""
    from auditor.probe.locate import is_users

    for message in messages:
        found = [(file, int(line)) for file, line in _SOURCE.findall(message) if is_users(file)]
        if found:
            return found[-1]
    return None
