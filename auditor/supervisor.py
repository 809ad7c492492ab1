"""Starts the probe in a child process and watches it: its records, its time, its death, the user's Ctrl-C.

Between this process and the child stands the warden, in a session of its own: Ctrl-C reaches only this process, and
nothing of the child survives it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from auditor import warden
from auditor.capture import Capture
from auditor.errors import AuditError
from auditor.spec import Gathered, ProbeSpec, Progress, Requests, Source, requests_file

# The first entry of sys.path belongs to `-c` and must not be there while the script is looked at as __main__.
BOOTSTRAP = (
    "import sys; sys.path[:] = sys.path[1:] if not sys.flags.safe_path else sys.path; "
    "from auditor.probe.launch import main; main()"
)
WARDEN = [sys.executable, "-S", "-P", warden.__file__]
POLL = 0.05
ASKED_TO_END = 2.0  # seconds between SIGTERM and SIGKILL after Ctrl-C
LATE = 1.0  # seconds past the deadline before SIGTERM, and from there to SIGKILL
ELSEWHERE = 10.0  # seconds of training in another process alone, after which more of it tells nothing
UNKILLABLE = 5.0  # seconds after SIGKILL at which a process stuck in the kernel is left behind


def child_command() -> list[str]:
    """The interpreter with the flags of this one; the path of the spec is added."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [sys.executable, *flags, "-c", BOOTSTRAP]


class Interrupts:
    """Counts SIGINT, SIGTERM and SIGHUP while active; threads other than the main one cannot, and see none."""

    def __init__(self) -> None:
        self.count = 0
        self.signal: int | None = None

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        self.count += 1
        self.signal = self.signal or number

    @contextmanager
    def watching(self) -> Iterator[Interrupts]:
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        # A signal that our own parent set to be ignored (nohup) stays ignored.
        before = {number: signal.getsignal(number) for number in numbers}
        for number in numbers:
            if before[number] is not signal.SIG_IGN:
                signal.signal(number, self._note)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@dataclass
class Ending:
    """What one start of the child left, and how it ended."""

    gathered: Gathered = field(default_factory=Gathered)
    exit_code: int | None = None
    killed_by: int | None = None  # the signal that ended it, unless we sent it
    timed_out: bool = False
    interrupted: bool = False
    problems: list[str] = field(default_factory=list)
    steps_seen: int = 0  # by its running count: what a killed child did not live to sum up
    records: int = 0

    @property
    def finished(self) -> bool:
        """The child says that it gathered everything it meant to."""
        return self.gathered.run.get("finished") is True


def watch(
    spec: ProbeSpec,
    *,
    command: Sequence[str] | None = None,
    capture: Capture | None = None,
    interrupts: Interrupts | None = None,
    listen: Callable[[Progress | None], None] | None = None,
    advise: Callable[[Ending], Requests] | None = None,
) -> Ending:
    """Run the child to its end, its deadline or the user's interrupt.

    `capture` receives what the script prints; without one, it goes where ours goes (standard output to standard
    error if the spec says so). `listen` is called at every look, with the latest progress. `advise` says which remedies
    are worth a trial after what the child has found so far; the child waits for it.
    """
    interrupts = interrupts or Interrupts()
    source = Source(Path(spec.run_dir) / "events.jsonl")
    ending = Ending()
    child = _Child(spec, command or child_command(), capture)
    stopper = _Stopper(child, spec.deadline)
    try:
        while not child.has_ended() and not stopper.gave_up():
            _take(source, ending)
            if ending.gathered.run.pop("waiting", False):
                _answer(spec, advise(ending) if advise is not None else Requests())
            stopper.look(interrupts.count, elsewhere=_trains_elsewhere(ending, source))
            if listen is not None:
                listen(ending.gathered.progress)
            time.sleep(POLL)
    finally:
        returncode = child.end()
        if capture is not None:
            capture.join(timeout=2.0)
    _take(source, ending)
    ending.steps_seen = max(ending.steps_seen, source.steps())
    source.close()
    _conclude(ending, returncode, stopper)
    return ending


def _environment(run_dir: Path) -> dict[str, str]:
    return {
        "MPLBACKEND": "Agg",  # a window would wait for someone to close it
        **os.environ,
        "AUDIT_ACTIVE": "1",
        "TMPDIR": str(run_dir / "tmp"),
    }


class _Child:
    """The probe's process and all that it starts, through the warden who holds them."""

    def __init__(self, spec: ProbeSpec, command: Sequence[str], capture: Capture | None) -> None:
        folder = Path(spec.run_dir)
        request = folder / "spec.json"
        request.write_text(json.dumps(spec.model_dump(mode="json")), encoding="ascii")
        own = 2 if spec.stdout_to_stderr else None
        self._orders, theirs = socket.socketpair()
        try:
            if shutil.which(command[0]) is None:
                raise OSError(f"{command[0]} cannot be executed")
            self._warden = subprocess.Popen(
                [*WARDEN, str(theirs.fileno()), str(folder), *command, str(request)],
                env=_environment(folder),
                stdout=subprocess.PIPE if capture else own,
                stderr=subprocess.STDOUT if capture else None,
                start_new_session=True,
                pass_fds=[theirs.fileno()],
            )
        except OSError as why:
            self._orders.close()
            raise AuditError(f"the probe could not be started: {why}") from None
        finally:
            theirs.close()
        if capture is not None and self._warden.stdout is not None:
            capture.drain(self._warden.stdout)

    def has_ended(self) -> bool:
        return self._warden.poll() is not None

    def order(self, what: bytes) -> None:
        with suppress(OSError):  # it has ended
            self._orders.send(what)

    def end(self) -> int | None:
        """Kill whatever is left. The exit code, negative for a signal, None for one that could not be killed."""
        with self._orders:
            self.order(warden.KILL)
            with suppress(subprocess.TimeoutExpired):
                self._warden.wait(timeout=UNKILLABLE)
            self._orders.setblocking(False)
            with suppress(OSError, ValueError):
                return int(self._orders.recv(64))
        return self._warden.returncode or None


class _Stopper:
    """Asks the child to end (SIGTERM) and then makes it (SIGKILL): after Ctrl-C, or past the deadline."""

    def __init__(self, child: _Child, deadline: float) -> None:
        self._child = child
        self._late = deadline + LATE
        self._kill_at: float | None = None
        self._killed_at: float | None = None
        self._elsewhere_since: float | None = None
        self.timed_out = False
        self.interrupted = False
        self.elsewhere = False

    @property
    def used(self) -> bool:
        return self.timed_out or self.interrupted or self.elsewhere

    def look(self, interrupts: int, elsewhere: bool = False) -> None:
        """`elsewhere`: a process that is not followed trains, and this one has not trained yet. It gets a while."""
        now = time.monotonic()
        if elsewhere and self._kill_at is None:
            self._elsewhere_since = self._elsewhere_since or now
            if now - self._elsewhere_since > ELSEWHERE:
                self.elsewhere, self._kill_at = True, now
        if self._kill_at is None and (interrupts or now >= self._late):
            self.interrupted = interrupts > 0
            self.timed_out = not self.interrupted
            self._kill_at = now + (ASKED_TO_END if self.interrupted else LATE)
            self._child.order(warden.ASK)
        due = self._kill_at is not None and now >= self._kill_at
        if self._killed_at is None and (due or interrupts > 1):
            self._killed_at = now
            self._child.order(warden.KILL)

    def gave_up(self) -> bool:
        return self._killed_at is not None and time.monotonic() - self._killed_at > UNKILLABLE


def _answer(spec: ProbeSpec, requests: Requests) -> None:
    """Whole or not at all: the child reads it as soon as it is there."""
    place = requests_file(spec.run_dir)
    draft = place.with_suffix(".draft")
    draft.write_text(requests.model_dump_json(), encoding="utf-8")
    draft.replace(place)


def _trains_elsewhere(ending: Ending, source: Source) -> bool:
    return bool(ending.gathered.run.get("elsewhere")) and not ending.steps_seen and not source.steps()


def _take(source: Source, ending: Ending) -> None:
    for record in source.new():
        ending.records += 1
        what = f"{record.get('kind')} {record.get('name', '')}".strip()
        try:
            ending.gathered.take(record)
        except (ValueError, KeyError, TypeError) as why:
            detail = (str(why).splitlines() or [""])[0]
            ending.problems.append(f"a record of the probe could not be read ({what}: {detail})")
        progress = ending.gathered.progress
        if progress is not None and progress.phase.startswith("observ"):
            ending.steps_seen = max(ending.steps_seen, progress.step)


def _conclude(ending: Ending, returncode: int | None, stopper: _Stopper) -> None:
    ending.interrupted = stopper.interrupted
    ending.timed_out = stopper.timed_out and not ending.finished
    if returncode is None or stopper.used:
        return
    if returncode < 0:
        ending.killed_by = -returncode
    else:
        ending.exit_code = returncode
