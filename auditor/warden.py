"""Stands between the audit and the child, so that nothing outlives the audit: `warden.py FD FOLDER COMMAND...`.

It runs the command in a session of its own, hears the audit's orders on the socket FD and answers there with how the
command ended. When the command ends, when it is ordered to, or when the audit itself is gone (the socket is closed,
even by SIGKILL), it kills whatever is left; in the last case it also removes FOLDER, the scratch files. On Linux
orphans of the command become children of the warden, also those that left its session: only its own children are ever
signalled, and no other process can have their ids before the warden has reaped them. Elsewhere what left the command's
process group is out of reach.

A program of its own that imports as little as it can: it starts in 20 ms and is small beside the child.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import NoReturn

ASK = b"t"  # SIGTERM to the group of the command
KILL = b"k"
GIVE_UP = 3.0  # seconds after which processes that cannot be killed (in the kernel, or not ours to signal) are left
_PAUSE = 0.01
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # of prctl(2)


class Warden:
    """Starts the command. `run` returns its exit code, negative for a signal, as `subprocess` has it."""

    def __init__(self, orders: int) -> None:
        self._orders = orders
        os.set_inheritable(orders, False)
        _prctl(_SET_CHILD_SUBREAPER, 1)
        self._status: int | None = None
        self.alone = False  # the audit is gone
        self._child = 0

    def run(self, command: list[str]) -> int | None:
        deaths, bell = os.pipe()
        os.set_blocking(bell, False)
        signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
        before = signal.signal(signal.SIGCHLD, lambda *_: None)  # inherited as ignored, it would lose the exit code
        self._child = os.fork()
        if not self._child:
            _become(command, before)
        self._listen(deaths)
        self._kill_all()
        return None if self._status is None else os.waitstatus_to_exitcode(self._status)

    def _listen(self, deaths: int) -> None:
        """Returns when the command has ended or must end."""
        while not self._ended():
            ready, _, _ = select.select([self._orders, deaths], [], [])
            if deaths in ready:
                os.read(deaths, 4096)
            if self._orders in ready:
                order = self._order()
                if order != ASK:
                    self.alone = not order
                    return
                self._signal_group(signal.SIGTERM)

    def _order(self) -> bytes:
        try:
            return os.read(self._orders, 1)
        except OSError:
            return b""

    def _ended(self) -> bool:
        """Reaps orphans. The child itself stays a zombie where that can be, so that its group's id stays its own."""
        if not hasattr(os, "waitid"):
            pid, status = os.waitpid(self._child, os.WNOHANG)
            self._status = status if pid else None
            return bool(pid)
        while (dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if dead.si_pid == self._child:
                return True
            os.waitpid(dead.si_pid, 0)
        return False

    def _kill_all(self) -> None:
        """Round after round: with each that dies, its own children become ours."""
        self._signal_group(signal.SIGKILL)
        give_up = time.monotonic() + GIVE_UP
        while time.monotonic() < give_up:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == self._child:
                self._status = status
            if not pid:
                for child in _children():
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(child, signal.SIGKILL)
                time.sleep(_PAUSE)

    def _signal_group(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):  # all gone already; macOS says so by the second
            os.killpg(self._child, number)


def _become(command: list[str], on_death_of_children: object) -> NoReturn:
    """In the forked child: the signals of an ordinary program, a session of its own, and then the command."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, on_death_of_children)  # type: ignore[arg-type]
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec would hand that on
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        _prctl(_SET_PDEATHSIG, signal.SIGKILL)  # should the warden itself be killed
        os.execv(command[0], command)
    except BaseException as why:
        os.write(2, f"{command[0]}: {why}\n".encode("utf-8", "replace"))
    os._exit(127)


def _prctl(option: int, value: int) -> None:
    if sys.platform != "linux":
        return
    with suppress(ImportError, OSError, AttributeError):  # a Python without ctypes: the process group must do
        import ctypes

        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3)


def _children() -> list[int]:
    """Our direct children; none where there is no /proc."""
    found = []
    with suppress(OSError):
        for name in filter(str.isdecimal, os.listdir("/proc")):
            with suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/stat", "rb") as file:  # pid (name, which may hold anything) state parent ...
                    parent = file.read().rpartition(b")")[2].split()[1]
                if int(parent) == os.getpid():
                    found.append(int(name))
    return found


def main() -> NoReturn:
    orders, folder = int(sys.argv[1]), sys.argv[2]
    warden = Warden(orders)
    code = warden.run(sys.argv[3:])
    if warden.alone:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)
    elif code is not None:
        with suppress(OSError):
            os.write(orders, str(code).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
