"""Scripts that fail, hang, die, flee and break what they stand on: the audit ends in time, says what happened, leaves
a report, and nothing of the script lives on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from warmstart import WarmStart

WARM_AUDIT = Path(__file__).parents[1] / "warmaudit.py"
LATEST = 30.0  # seconds past --max-time at which the whole command is over, on a busy machine too

SETUP = """
import atexit, ctypes, os, re, resource, shutil, signal, subprocess, sys, threading, time
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

torch.manual_seed(0)
x, y = torch.randn(80, 4), torch.randint(0, 2, (80,))
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def step(a, b):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(a), b).backward()
    optimizer.step()


def there():
    ctypes.CDLL(None).mkdir(b"there", 0o700)  # natively: what Python makes is diverted


def hang():
    there()
    while True:
        time.sleep(0.01)


class Rows(Dataset):
    def __len__(self):
        return 80

    def __getitem__(self, index):
        return x[index], y[index]


def remember(pid):
    with open("pids", "a") as file:
        file.write(f"{pid}\\n")


"""


def at_step(number: int, line: str) -> str:
    """A loop of 100 steps in which `line` runs before the step of that number."""
    return f"""
for i in range(100):
    if i == {number}:
        {line}
    step(x[:8], y[:8])
"""


def first(line: str) -> str:
    """`line`, and then a loop of 100 steps."""
    return f"{line}\n{at_step(0, 'pass')}"


SLEEPER = "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; time.sleep(600)"


@dataclass(frozen=True)
class Case:
    """`said`: what the command must print, to either stream; by default, the report alone. A script whose status is a
    timeout gets `max_time` seconds, and as many again until it comes to the place where it hangs (`there`)."""

    name: str
    script: str
    code: int
    status: str
    said: tuple[str, ...] = ()
    max_time: float = 300.0
    steps: int | None = None
    stdin: int = subprocess.DEVNULL


FAILED, TIMEOUT, COMPLETED, NOTHING = "script-failed", "timeout", "completed", "nothing-to-audit"

CASES = [
    # -------------------------------------------------------------------------------------------- it raises or exits
    Case("syntax error", "import torch\nfor epoch in range(3:\n", 3, FAILED, ("train.py:2", "SyntaxError")),
    Case("missing module", "import no_such_library\n", 3, FAILED, ("No module named 'no_such_library'", "train.py:1")),
    Case(
        "exception at step 5",
        at_step(5, "raise ValueError('row 5 is torn')"),
        3,
        FAILED,
        ("after 5 training steps", "ValueError: row 5 is torn"),
    ),
    Case(
        "exception in a worker",
        """
class Torn(Rows):
    def __getitem__(self, index):
        if index == 50:
            raise ValueError("row 50 is torn")
        return super().__getitem__(index)

for a, b in DataLoader(Torn(), batch_size=8, num_workers=1):
    step(a, b)
""",
        3,
        FAILED,
        ("row 50 is torn",),
    ),
    Case("sys.exit(0) half-way", at_step(12, "sys.exit(0)"), 0, COMPLETED, steps=12),
    Case("sys.exit(3) half-way", at_step(12, "sys.exit(3)"), 3, FAILED, ("after 12 training steps", "SystemExit: 3")),
    Case("sys.exit with words", at_step(5, "sys.exit('no more data')"), 3, FAILED, ("no more data",)),
    Case("a KeyboardInterrupt of its own", at_step(5, "raise KeyboardInterrupt"), 3, FAILED, ("KeyboardInterrupt",)),
    Case(
        "an excepthook that hangs",
        first("sys.excepthook = lambda *_: hang()").replace("step(x[:8]", "step(x[:9]"),
        3,
        FAILED,
        ("the script failed", "ValueError"),
        max_time=10,
    ),
    Case(
        "a crash with the streams gone",
        "sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = None\nos.closerange(0, 3)\n"
        + at_step(5, "raise ValueError('unheard')"),
        3,
        FAILED,
        ("after 5 training steps", "ValueError: unheard"),
    ),
    Case(
        "a recursion past the usual limit",
        "sys.setrecursionlimit(9000)\ndef f(depth):\n    f(depth + 1)\n" + at_step(5, "f(0)"),
        3,
        FAILED,
        ("after 5 training steps", "RecursionError"),
    ),
    Case(
        "an exception that cannot be printed",
        "class Mute(Exception):\n    def __str__(self):\n        raise ValueError\n" + at_step(5, "raise Mute"),
        3,
        FAILED,
        ("after 5 training steps", "Mute"),
    ),
    # ---------------------------------------------------------------------------------------------------- sudden death
    Case("os._exit(0) before the first step", "os._exit(0)", 5, NOTHING, ("no training step was seen",)),
    Case("os._exit(0) at step 12", at_step(12, "os._exit(0)"), 0, COMPLETED),
    Case("os._exit(7) at step 5", at_step(5, "os._exit(7)"), 3, FAILED, ("after 5 training steps", "exit code 7")),
    Case("SIGSEGV", at_step(5, "ctypes.string_at(0)"), 3, FAILED, ("after 5 training steps", "SIGSEGV")),
    Case("SIGABRT", at_step(5, "os.abort()"), 3, FAILED, ("SIGABRT",)),
    Case("SIGKILL, as when out of memory", at_step(5, "os.kill(os.getpid(), 9)"), 3, FAILED, ("SIGKILL", "memory")),
    Case("SIGALRM", at_step(5, "signal.setitimer(signal.ITIMER_REAL, 0.1); hang()"), 3, FAILED, ("SIGALRM",)),
    Case("kills its own group", at_step(5, "os.killpg(os.getpgrp(), signal.SIGKILL)"), 3, FAILED, ("SIGKILL",)),
    Case("kills its parent", at_step(5, "os.kill(os.getppid(), signal.SIGKILL); hang()"), 3, FAILED, ("SIGKILL",)),
    # ---------------------------------------------------------------------------------------------------------- memory
    Case("a huge tensor", at_step(5, "torch.empty(10**15)"), 3, FAILED, ("after 5 training steps", "memory")),
    Case(
        "out of address space",
        """
limit = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + 2 * 10**8
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
kept = []
"""
        + at_step(5, "while True: kept.append(bytearray(10**6))"),
        3,
        FAILED,
        ("after 5 training steps", "MemoryError"),
    ),
    # ----------------------------------------------------------------------------------------------------------- hangs
    Case("endless import", "import endless", 5, TIMEOUT, ("before the first training step", "endless.py:5"), 10),
    Case(
        "endless first batch",
        "Rows.__getitem__ = lambda self, index: hang()\nfor a, b in DataLoader(Rows()):\n    step(a, b)",
        5,
        TIMEOUT,
        ("before the first training step", "in hang"),
        10,
    ),
    Case(
        "endless first batch in a worker",
        "Rows.__getitem__ = lambda self, index: hang()\nfor a, b in DataLoader(Rows(), num_workers=1):\n    step(a, b)",
        5,
        TIMEOUT,
        ("before the first training step",),
        5,
    ),
    Case(
        "endless evaluation",
        at_step(5, "hang()"),
        0,
        TIMEOUT,
        ("the time was up after 5 steps", "in hang"),
        12,
        steps=5,
    ),
    Case(
        "stuck in native code",
        at_step(5, "there(); re.match('(a+)+$', 'a' * 60 + 'b')"),
        0,
        TIMEOUT,
        ("after 5 steps",),
        12,
        5,
    ),
    Case(
        "an endless slow loop",
        "while True:\n    time.sleep(0.5)\n    step(x, y)",
        0,
        COMPLETED,
        max_time=12,
    ),
    Case(
        "ignores every signal",
        """
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
"""
        + at_step(5, "hang()"),
        0,
        TIMEOUT,
        ("the time was up after 5 steps",),
        12,
        5,
    ),
    Case(
        "waits for an answer that never comes",
        "there()\nname = input('Which GPU? ')",
        5,
        TIMEOUT,
        ("before the first training step", "Which GPU?"),
        10,
        stdin=subprocess.PIPE,
    ),
    Case("asks where nobody can answer", "name = input('Which GPU? ')", 3, FAILED, ("EOFError", "Which GPU?")),
    # ----------------------------------------------------------------------------------------- it holds on to the loop
    Case(
        "bare except around the loop",
        """
while True:
    try:
        for a, b in DataLoader(TensorDataset(x, y), batch_size=8):
            step(a, b)
    except:
        print("caught something")
""",
        0,
        COMPLETED,
        steps=20,
    ),
    Case("atexit that hangs", "atexit.register(hang)\n" + at_step(12, "break"), 0, COMPLETED, steps=12),
    Case(
        "threads left running",
        "threading.Thread(target=hang).start()\n" + at_step(12, "break"),
        0,
        COMPLETED,
        steps=12,
    ),
    Case(
        "trains in a thread",
        "def train():" + at_step(0, "pass").replace("\n", "\n    ") + "\nthreading.Thread(target=train).start()",
        0,
        COMPLETED,
        steps=20,
    ),
    Case("os._exit replaced", first("os._exit = lambda code: None"), 0, COMPLETED, steps=20),
    # ------------------------------------------------------------------------------------------------- it leaves others
    Case(
        "a fork that ends first", "os.fork() or sys.exit(4)\nos.wait()\n" + at_step(0, "pass"), 0, COMPLETED, steps=20
    ),
    Case(
        "persistent workers",
        """
loader = DataLoader(Rows(), batch_size=8, num_workers=2, persistent_workers=True)
for epoch in range(5):
    for a, b in loader:
        for worker in loader._iterator._workers:
            epoch or remember(worker.pid)
        step(a, b)
""",
        0,
        COMPLETED,
        steps=20,
    ),
    Case(
        "processes left behind",
        f"""
for new_session in (False, True):
    remember(subprocess.Popen([sys.executable, "-S", "-c", {SLEEPER!r}], start_new_session=new_session).pid)
time.sleep(0.3)
"""
        + at_step(5, "os._exit(0)"),
        0,
        COMPLETED,
    ),
    Case(
        "daemons that nothing links to the script",
        f"""
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        remember(os.getpid())
        os.execve(sys.executable, [sys.executable, "-S", "-c", {SLEEPER!r}], {{}})
    os.wait()
time.sleep(0.3)
"""
        + at_step(5, "pass"),
        0,
        COMPLETED,
        steps=20,
    ),
    # -------------------------------------------------------------------------------------- it saws at what it sits on
    Case("changes the folder", first("os.mkdir('run')\nos.chdir('run')"), 0, COMPLETED, steps=20),
    Case("deletes its folder", first("os.mkdir('run')\nos.chdir('run')\nos.rmdir('../run')"), 0, COMPLETED, steps=20),
    Case("deletes the audit's folder", first("subprocess.run(['rm', '-r', os.getcwd()])"), 0, COMPLETED, steps=20),
    Case("deletes TMPDIR", first("subprocess.run(['rm', '-r', os.environ['TMPDIR']])"), 0, COMPLETED, steps=20),
    Case(
        "deletes the scratch folder",
        first("subprocess.run(['rm', '-r', os.path.dirname(os.environ['TMPDIR'])])"),
        0,
        COMPLETED,
        steps=20,
    ),
    Case("no standard streams", first("sys.stdin = sys.stdout = sys.stderr = None"), 0, COMPLETED, steps=20),
    Case(
        "closes every descriptor",
        first("os.closerange(0, 1024)\nkept = [os.open('mine', os.O_RDWR | os.O_CREAT) for _ in range(20)]"),
        0,
        COMPLETED,
        steps=20,
    ),
    # ------------------------------------------------------------------------------------------------------- it floods
    Case("100 MB of output", first("line = 'x' * 99 + '\\n'\nfor _ in range(1000): print(line * 1000)"), 0, COMPLETED),
    Case(
        "binary output",
        at_step(5, "sys.stdout.buffer.write(bytes(range(256)) * 99); raise ValueError('\\x1b[2J\\udcff')"),
        3,
        FAILED,
        ("ValueError",),
    ),
    Case(
        "evidence without end",
        """
model = torch.nn.Sequential(*[torch.nn.Linear(4, 4) for _ in range(300)], torch.nn.Linear(4, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
        + at_step(0, "pass"),
        0,
        COMPLETED,
        steps=20,
    ),
]


class Command:
    """`audit run train.py` in a process of its own, all of whose descendants carry a mark in their environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        self._streams = folder / "out", folder / "err"
        self.scratch = Path(tempfile.mkdtemp(prefix="hostile-"))  # short: sockets of workers live below it
        self._mark = f"AUDIT_TEST_MARK={uuid.uuid4()}"
        self.program: tuple[str, ...] = ("-m", "auditor")

    def start(self, script: str, *, max_time: float = 300.0, stdin: int = subprocess.DEVNULL) -> None:
        (self.folder / "train.py").write_text(script)
        (self.folder / "endless.py").write_text(
            "import ctypes, time\n\nctypes.CDLL(None).mkdir(b'there', 0o700)\nwhile True:\n    time.sleep(0.01)\n"
        )
        name, _, value = self._mark.partition("=")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AUDIT_", "FORCE_COLOR"))}
        options = ("--steps", "20", "--select", "missing-zero-grad", "--no-experiments", "--max-time", str(max_time))
        out, err = self._streams
        self._began = time.monotonic()
        with open(out, "wb") as out_file, open(err, "wb") as err_file:
            self.process = subprocess.Popen(
                [sys.executable, *self.program, "run", *options, "train.py"],
                cwd=self.folder,
                env={**kept, name: value, "TMPDIR": str(self.scratch), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"},
                stdin=stdin,
                stdout=out_file,
                stderr=err_file,
            )

    def wait(self, timeout: float = 420.0) -> int:
        try:
            return self.process.wait(timeout)
        finally:
            self.seconds = time.monotonic() - self._began
            if self.process.poll() is None:
                self.process.kill()
            if self.process.stdin is not None:
                self.process.stdin.close()

    @property
    def there(self) -> bool:
        """The script has come to where it hangs."""
        return (self.folder / "there").exists()

    def wait_until_there(self, timeout: float = 200.0) -> None:
        give_up = time.monotonic() + timeout
        while not self.there and self.process.poll() is None and time.monotonic() < give_up:
            time.sleep(0.05)
        assert self.there, self.printed

    @property
    def printed(self) -> str:
        """Both streams, with line breaks folded: reports are wrapped."""
        return " ".join(" ".join(path.read_text(errors="replace") for path in self._streams).split())

    @property
    def run(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / ".audit/audit.json").read_text())["run"])

    @property
    def report(self) -> Path:
        return self.folder / ".audit/report.html"

    def survivors(self) -> list[str]:
        """What still lives of all that the command has started: whatever carries the mark or was written down."""
        noted = self.folder / "pids"
        pids = {int(line) for line in noted.read_text().split()} if noted.exists() else set()
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self._mark.encode() in path.read_bytes().split(b"\0"):
                    pids.add(int(path.parent.name))
            except OSError:
                continue
        return [what for pid in pids if (what := _alive(pid))]


def _alive(pid: int) -> str:
    """Its command line; empty when it is gone or only waits to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return "" if state in "ZX" else f"{pid} {Path(f'/proc/{pid}/cmdline').read_text()}"
    except OSError:
        return ""


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path)
    yield command
    shutil.rmtree(command.scratch, ignore_errors=True)


# What these do to processes, signals and descriptors is nothing special: a warm start saves their cold one.
WARM = {
    "exception at step 5",
    "sys.exit(0) half-way",
    "os._exit(0) before the first step",
    "os._exit(0) at step 12",
    "endless first batch",
    "bare except around the loop",
    "100 MB of output",
    "evidence without end",
}


FURTHER = {  # much like one of the others
    "missing module",
    "sys.exit with words",
    "sys.exit(3) half-way",
    "os._exit(7) at step 5",
    "SIGABRT",
    "SIGALRM",
    "a huge tensor",
    "a recursion past the usual limit",
    "an excepthook that hangs",
    "an endless slow loop",
    "endless first batch in a worker",
    "trains in a thread",
    "deletes its folder",
    "deletes TMPDIR",
    "closes every descriptor",
    "binary output",
    "os._exit replaced",
    "no standard streams",
    "changes the folder",
    "kills its own group",
    "asks where nobody can answer",
    "an exception that cannot be printed",
    "exception in a worker",
    "SIGSEGV",
    "out of address space",
    "endless import",
    "endless evaluation",
    "a fork that ends first",
    "persistent workers",
    "deletes the audit's folder",
    "a crash with the streams gone",
    "a KeyboardInterrupt of its own",
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name, marks=pytest.mark.corpus if case.name in FURTHER else []) for case in CASES],
)
def test_hostile_script(command: Command, case: Case, warm: WarmStart) -> None:
    if case.name in WARM:
        command.program = (str(WARM_AUDIT), json.dumps(warm.command))
    script = case.script if "import" in case.script.partition("\n")[0] else SETUP + case.script
    code, max_time = _run_until_it_hangs(command, case, script)
    assert not command.survivors()
    assert not list(command.scratch.glob("audit-*"))
    assert (code, command.run["status"]) == (case.code, case.status), command.printed
    assert command.report.exists()
    assert "Traceback" not in command.printed or case.status == FAILED  # and then it is the script's
    assert "auditor/" not in command.printed
    for words in case.said:
        assert words in command.printed
    assert "internal error" not in command.printed
    if case.steps is not None:
        assert command.run["steps"] == case.steps
    assert command.seconds <= max_time + LATEST


def _run_until_it_hangs(command: Command, case: Case, script: str) -> tuple[int, float]:
    """The exit code, and the time that it took: on a busy machine, the time may be up before a script hangs at all."""
    max_time = case.max_time
    while True:
        shutil.rmtree(command.folder / "there", ignore_errors=True)
        command.start(script, max_time=max_time, stdin=case.stdin)
        code = command.wait(max_time + 120)
        if case.status != TIMEOUT or command.there or max_time > 100:
            return code, max_time
        max_time *= 2


ENDLESS = SETUP + at_step(5, "hang()")


def _interrupt(command: Command, numbers: list[int], script: str = ENDLESS) -> int:
    command.start(script)
    command.wait_until_there()
    for number in numbers:
        time.sleep(0.5)
        command.process.send_signal(number)
    return command.wait(60)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.corpus),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.corpus),
    ],
)
def test_an_interrupted_audit_reports_what_it_saw(command: Command, number: int, code: int) -> None:
    assert _interrupt(command, [number]) == code
    assert not command.survivors()
    assert (command.run["status"], command.run["steps"]) == ("interrupted", 5)
    assert "in hang" in command.printed
    assert command.report.exists()


def test_a_second_interrupt_ends_at_once(command: Command) -> None:
    deaf = SETUP + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + at_step(5, "hang()")
    assert _interrupt(command, [signal.SIGINT, signal.SIGINT], deaf) == 130
    assert not command.survivors()
    assert command.run["status"] == "interrupted"


def test_nothing_outlives_an_audit_that_was_killed(command: Command) -> None:
    """Not the script, not what it has started, not the process that watches over both, no scratch files."""
    leaving = f"""
remember(subprocess.Popen([sys.executable, "-S", "-c", {SLEEPER!r}], start_new_session=True, env={{}}).pid)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
"""
    assert _interrupt(command, [signal.SIGKILL], SETUP + leaving + at_step(5, "hang()")) == -signal.SIGKILL
    give_up = time.monotonic() + 30
    while (command.survivors() or list(command.scratch.iterdir())) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not command.survivors()
    assert not list(command.scratch.iterdir())


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("pass\n")
    (tmp_path / "gone").mkdir()
    started = f"cd gone && rmdir ../gone && exec {sys.executable} -m auditor run {tmp_path}/train.py"
    ended = subprocess.run(["sh", "-c", started], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.strip() == "audit: this folder has been deleted; start the audit from another one"
