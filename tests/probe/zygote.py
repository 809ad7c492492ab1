"""A process that has imported torch once and forks a child for every run, which saves seconds a run.

Requests come as JSON lines on standard input; the answer is the child's exit code, negative for a signal. No torch
operation ever runs here, so a fork is safe.
"""

from __future__ import annotations

import builtins
import json
import os
import random
import runpy
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

write = open  # what is noted is not the script's to write
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != HERE]

import numpy.random  # noqa: E402, F401
import torch._dynamo  # noqa: E402 - every optimizer imports it, which takes a second
import torch.utils.data  # noqa: E402, F401

import auditor.probe.launch  # noqa: E402
import auditor.probe.parts  # noqa: E402
import auditor.probe.probe  # noqa: E402
import auditor.probe.taps  # noqa: E402
import auditor.probe.target  # noqa: E402

auditor.probe.parts.collectors()  # imports them all


def next_child() -> dict[str, Any]:
    """Serve requests; returns, with its request, in each forked child."""
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            return request
        print(_wait(pid, request["timeout"]), flush=True)
    sys.exit(0)


def _wait(pid: int, seconds: float) -> int:
    until = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def prepare(request: dict[str, Any]) -> None:
    """Give the child streams, a folder, and the functions that scripts under test may call."""
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(request["folder"])
    random.seed(0)  # a fork seeds it anew, unlike the generators of numpy and torch

    def note(**values: Any) -> None:
        with write(request["notes"], "a") as file:
            file.write(json.dumps(values) + "\n")

    builtins.note = note  # type: ignore[attr-defined]
    if request["record"]:
        recorder = runpy.run_path(os.path.join(HERE, "recorder.py"))
        recorder["install"](Path(request["notes"]), request["record"])


def run(request: dict[str, Any]) -> int:
    """The script, bare or under the probe."""
    if request["spec"]:
        sys.argv = ["-c", request["spec"]]
        auditor.probe.launch.main()  # does not return
    sys.argv = [request["script"], *request["args"]]
    sys.path.insert(0, os.path.dirname(request["script"]))
    try:
        runpy.run_path(request["script"], run_name="__main__")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


# Outside of any loop: the probe counts the loops around a batch in every frame of the stack.
asked = next_child()
prepare(asked)
code = run(asked)
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)
