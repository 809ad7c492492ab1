"""Training in processes that the script starts. They are not followed, but noticed, and their files are diverted too.

Imports no torch and little else: it runs at the start of every spawned worker.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import multiprocessing.spawn
import multiprocessing.util
import os
import sys
from collections.abc import Callable
from functools import wraps
from types import FrameType, ModuleType
from typing import Any

from auditor.probe.guard.diversion import Diversion
from auditor.probe.guard.imports import after_import

_OURS = os.path.dirname(os.path.abspath(__file__))
BOOTSTRAP = (
    "import sys; first = sys.path.pop(0); from auditor.probe.elsewhere import in_spawned; in_spawned({run_dir!r}, "
    "{divert!r}); sys.path.insert(0, first); "
)


def follow_spawned(run_dir: str, divert: bool) -> None:
    """Processes that multiprocessing spawns begin with `in_spawned`. Forked ones have inherited everything."""
    original: Callable[..., list[str]] = multiprocessing.spawn.get_command_line

    @wraps(original)
    def command_line(**options: Any) -> list[str]:
        command = original(**options)
        if "-c" in command:
            place = command.index("-c") + 1
            command[place] = BOOTSTRAP.format(run_dir=run_dir, divert=divert) + command[place]
        return command

    multiprocessing.spawn.get_command_line = command_line
    start: Callable[..., int] = multiprocessing.util.spawnv_passfds

    @wraps(start)
    def spawnv_passfds(path: Any, arguments: Any, descriptors: Any) -> int:
        """What starts the fork server, from which workers are forked."""
        arguments = list(arguments)
        place = arguments.index("-c") + 1 if "-c" in arguments else 0
        if place and arguments[place].startswith("from multiprocessing.forkserver import main"):
            arguments[place] = BOOTSTRAP.format(run_dir=run_dir, divert=divert) + arguments[place]
        return start(path, arguments, descriptors)

    multiprocessing.util.spawnv_passfds = spawnv_passfds  # type: ignore[assignment]


def in_spawned(run_dir: str, divert: bool) -> None:
    """Before anything else in a spawned process."""
    if divert:
        Diversion(os.path.join(run_dir, "files")).install()
    after_import({"torch.autograd": [lambda module: _watch_backward(module, run_dir)]})
    follow_spawned(run_dir, divert)


def _watch_backward(autograd: ModuleType, run_dir: str) -> None:
    original = autograd.backward
    notice = Notice(run_dir)

    @wraps(original)
    def backward(*args: Any, **kwargs: Any) -> Any:
        notice()
        return original(*args, **kwargs)

    autograd.backward = backward  # type: ignore[attr-defined]


class Notice:
    """Tells the parent, once a process, that this process trains."""

    def __init__(self, run_dir: str) -> None:
        self._events = os.path.join(run_dir, "events.jsonl")
        self._said_by = 0

    def __call__(self) -> None:
        if self._said_by == os.getpid():
            return
        self._said_by = os.getpid()
        record = json.dumps({"kind": "run", "elsewhere": _training_line()}) + "\n"
        with contextlib.suppress(OSError):  # the script may have deleted what it found in its temporary folder
            descriptor = os.open(self._events, os.O_WRONLY | os.O_APPEND)
            os.write(descriptor, record.encode("utf-8", "backslashreplace"))
            os.close(descriptor)


def trained_elsewhere(run_dir: str) -> bool:
    """True when some process of the script has said so."""
    try:
        with open(os.path.join(run_dir, "events.jsonl"), encoding="utf-8", errors="replace") as events:
            return any('"elsewhere"' in line for line in events)
    except OSError:
        return False


def _training_line() -> str:
    """file:line of the nearest frame outside of packages; where a framework runs the loop, the name of the process."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        foreign = "site-packages" in file or file.startswith((sys.prefix, sys.base_prefix, "<", _OURS))
        if not foreign:
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return multiprocessing.current_process().name
