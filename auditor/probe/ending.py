"""Ending the child: by itself, and when the audit asks it to."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from auditor.probe.locate import user_location

if TYPE_CHECKING:
    from auditor.probe.probe import Probe

_LOOK = 0.02
_IDLE_SECONDS, _IDLE_SHARE = 2.0, 0.05  # threads that use less of the processor than this for so long only wait
_leave = os._exit  # whatever the script does to its os module


def end_process(code: int) -> NoReturn:
    """Flush what was printed and leave, without atexit handlers and without waiting for threads."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(Exception):
            stream.flush()  # type: ignore[union-attr]
    _leave(code)


def end_when_asked(probe: Probe) -> None:
    """On SIGTERM, which is how the audit says that the time is up or that the user pressed Ctrl-C, send what was seen
    until then. A script that handles SIGTERM itself is left to it, and killed when it goes on."""

    def asked(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(Exception):
            _send_what_was_seen(probe)
        end_process(128 + number)

    before = signal.signal(signal.SIGTERM, asked)

    def forget() -> None:
        """Forked workers end at once when their pool terminates them, as ever."""
        if signal.getsignal(signal.SIGTERM) is asked:
            signal.signal(signal.SIGTERM, before)

    os.register_at_fork(after_in_child=forget)


def _send_what_was_seen(probe: Probe) -> None:
    why = "the time limit" if time.monotonic() >= probe.spec.deadline else "an interrupt"
    place = user_location()
    if place is not None:
        where = f"{os.path.basename(place.file)}:{place.line}" + (f" in {place.function}" if place.function else "")
        probe.notes.append(f"When {why} ended the audit, the script was at {where}.")
    if probe.alive():  # not amid work of our own, whose data may be half-made
        probe.director.stopped(why)
    probe.say_last_words(finished=False)


def wait_for_threads(probe: Probe) -> None:
    """As the interpreter waits at its end: the thread that trains may be another than the main one. Threads that do
    something else, or nothing, are not waited for."""
    began, used = time.monotonic(), time.process_time()
    while True:
        others = [t for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon]
        trainer = probe.director.trainer
        if trainer is None:
            now = time.monotonic()
            if now - began > _IDLE_SECONDS:
                if time.process_time() - used < _IDLE_SHARE * (now - began):
                    return
                began, used = now, time.process_time()
        else:
            others = [thread for thread in others if thread is trainer]
        if not others:
            return
        time.sleep(_LOOK)
