"""The child's ways to end, and what is left of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from auditor.capture import Capture
from auditor.errors import AuditError
from auditor.supervisor import BOOTSTRAP, Interrupts, child_command, scratch_folder, watch


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_the_bootstrap_is_the_last_argument():
    assert child_command()[-2:] == ["-c", BOOTSTRAP]


def test_records_and_exit_code_arrive(child):
    ending = watch(child.spec(), command=child.command("trajectory(2.0, 1.0)\nfinish(2)"))
    assert ending.finished
    assert ending.exit_code == 0
    assert ending.gathered.parts["trajectory"].losses == (2.0, 1.0)
    assert not ending.timed_out
    assert not ending.interrupted


@pytest.mark.parametrize(
    ("death", "number"),
    [("os.kill(os.getpid(), signal.SIGKILL)", signal.SIGKILL), ("os.kill(os.getpid(), 11)", signal.SIGSEGV)],
)
def test_what_was_written_survives_a_signal(child, death, number):
    ending = watch(child.spec(), command=child.command(f"trajectory(2.0)\n{death}"))
    assert ending.killed_by == number
    assert ending.exit_code is None
    assert "trajectory" in ending.gathered.parts


def test_what_was_written_survives_os_exit(child):
    ending = watch(child.spec(), command=child.command("trajectory(2.0)\nos._exit(7)"))
    assert ending.exit_code == 7
    assert "trajectory" in ending.gathered.parts


def test_a_hanging_child_that_ignores_sigterm_is_killed_after_its_deadline(child):
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntrajectory(2.0)\ntime.sleep(60)"
    started = time.monotonic()
    ending = watch(child.spec(seconds=0.5), command=child.command(body))
    assert ending.timed_out
    assert ending.killed_by is None
    assert "trajectory" in ending.gathered.parts
    assert time.monotonic() - started < 5


def test_a_child_that_ends_by_itself_at_the_deadline_did_not_time_out(child):
    body = "signal.signal(signal.SIGTERM, lambda *_: (finish(1), os._exit(0)))\ntime.sleep(60)"
    ending = watch(child.spec(seconds=0.3), command=child.command(body))
    assert ending.finished
    assert not ending.timed_out


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("end", ["finish(1)", "os._exit(1)"])
def test_nothing_of_the_group_survives(child, end):
    body = f"""
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    sleeper = subprocess.Popen([sys.executable, "-S", "-c", code])
    write("run", notes=[str(sleeper.pid)])
    {end}
    """
    ending = watch(child.spec(), command=child.command(body), capture=Capture(None))
    sleeper = int(ending.gathered.run["notes"][0])
    give_up = time.monotonic() + 3
    while _alive(sleeper) and time.monotonic() < give_up:
        time.sleep(0.02)
    assert not _alive(sleeper)


def test_first_interrupt_asks_and_the_second_kills(child):
    body = "signal.signal(signal.SIGTERM, lambda *_: trajectory(1.0))\nwrite('run', steps=1)\nwhile 1: time.sleep(60)"
    interrupts = Interrupts()

    def press_twice():
        interrupts.count = 1
        time.sleep(0.4)
        interrupts.count = 2

    threading.Timer(0.4, press_twice).start()
    started = time.monotonic()
    ending = watch(child.spec(), command=child.command(body), interrupts=interrupts)
    assert ending.interrupted
    assert not ending.timed_out
    assert "trajectory" in ending.gathered.parts
    assert time.monotonic() - started < 2.2


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT)
    with Interrupts().watching() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        assert interrupts.count == 1
        assert interrupts.signal == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before


def test_damaged_records_are_said_and_dropped(child):
    body = """
    events.write(b'{"kind": "part", "name": "no_such", "value": {}}\\n')
    events.write(b'{"kind": "part", "name": "updates", "value": {"steps": "x"}}\\n')
    events.write(b'not json\\n')
    trajectory(1.0)
    finish(1)
    events.write(b'{"kind": "part", "na')
    """
    ending = watch(child.spec(), command=child.command(body))
    assert list(ending.gathered.parts) == ["trajectory"]
    assert len(ending.problems) == 2
    assert ending.finished


def test_steps_of_the_observation_are_counted_from_progress(child):
    body = """
    write("progress", phase="observing", step=7, of=60)
    time.sleep(0.2)
    write("progress", phase="overfit", step=190, of=200)
    os._exit(9)
    """
    seen = []
    ending = watch(child.spec(), command=child.command(body), listen=seen.append)
    assert ending.steps_seen == 7
    assert seen[0] is None or seen[0].phase == "observing"


def test_the_environment_and_the_session_of_the_child(child, monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)
    body = """
    names = ("AUDIT_ACTIVE", "TMPDIR", "WANDB_MODE", "WANDB_DIR", "MPLBACKEND")
    write("run", notes=[os.environ[name] for name in names] + [str(os.getsid(0) == os.getpid())])
    """
    spec = child.spec()
    ending = watch(spec, command=child.command(body))
    files = f"{spec.run_dir}/files"
    assert ending.gathered.run["notes"] == ["1", f"{spec.run_dir}/tmp", "offline", files, "Agg", "True"]


def test_a_flood_is_cut_and_does_not_block(child, tmp_path):
    log = tmp_path / "output.log"
    capture = Capture(log, cap=200_000)
    body = """
    print("first")
    line = "x" * 99 + "\\n"
    for _ in range(50): sys.stdout.write(line * 10_000)
    print("last")
    finish(1)
    """
    ending = watch(child.spec(), command=child.command(body), capture=capture)
    capture.close()
    text = log.read_text()
    assert ending.finished
    assert text.startswith("first")
    assert text.endswith("last\n")
    assert "bytes left out" in text
    assert len(text) < 210_000
    assert capture.last_lines(2).endswith("last")


def test_a_command_that_cannot_start_is_one_sentence(child):
    with pytest.raises(AuditError, match="could not be started"):
        watch(child.spec(), command=["/nonexistent/python"])


def test_the_scratch_folder_goes():
    with scratch_folder() as folder:
        assert (folder / "tmp").is_dir()
    assert not folder.exists()
