"""The child's ways to end, and what is left of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from auditor.capture import Capture
from auditor.errors import AuditError
from auditor.scratch import diverted_files, scratch_folder
from auditor.supervisor import BOOTSTRAP, Interrupts, child_command, watch


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
    ending = watch(child.spec(seconds=3), command=child.command(body))
    assert ending.timed_out
    assert ending.killed_by is None
    assert "trajectory" in ending.gathered.parts
    assert time.monotonic() - started < 50, "it ended before its sleep did"


def test_a_child_that_ends_by_itself_at_the_deadline_did_not_time_out(child):
    body = "signal.signal(signal.SIGTERM, lambda *_: (finish(1), os._exit(0)))\ntime.sleep(60)"
    ending = watch(child.spec(seconds=3), command=child.command(body))
    assert ending.finished
    assert not ending.timed_out


DEAF = "import signal, time; [signal.signal(number, signal.SIG_IGN) for number in (1, 2, 15)]; time.sleep(60)"


def _gone(pid: int, seconds: float = 20.0) -> bool:
    give_up = time.monotonic() + seconds
    while _alive(pid) and time.monotonic() < give_up:
        time.sleep(0.02)
    return not _alive(pid)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("end", ["finish(1)", "os._exit(1)", "os.kill(os.getpid(), signal.SIGKILL)"])
@pytest.mark.parametrize("how", ["", "start_new_session=True", "start_new_session=True, env={}"])
def test_nothing_that_the_child_started_survives(child, how, end):
    """Whether it stayed in the group of the child, left it, or also dropped its environment."""
    body = f"""
    sleeper = subprocess.Popen([sys.executable, "-S", "-c", {DEAF!r}], {how})
    write("run", notes=[str(sleeper.pid)])
    {end}
    """
    ending = watch(child.spec(), command=child.command(body), capture=Capture(None))
    assert _gone(int(ending.gathered.run["notes"][0]))


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
def test_generations_of_daemons_are_killed_and_those_of_others_are_not(child):
    body = f"""
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            for _ in range(5):
                if os.fork():
                    break
            write("run", notes=[])
            open(spec["run_dir"] + f"/{{os.getpid()}}.pid", "w").close()
            exec({DEAF!r})
    while len([name for name in os.listdir(spec["run_dir"]) if name.endswith(".pid")]) < 18:
        time.sleep(0.01)
    finish(1)
    """
    bystander = subprocess.Popen([sys.executable, "-S", "-c", DEAF], start_new_session=True)
    try:
        spec = child.spec()
        watch(spec, command=child.command(body))
        pids = [int(path.stem) for path in Path(spec.run_dir).glob("*.pid")]
        assert len(pids) == 18
        assert not [pid for pid in pids if _alive(pid)]
        assert _alive(bystander.pid)
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_the_child_ends_with_the_audit(child):
    """The audit itself is killed: the warden sees its socket closed."""
    body = f"""
    sleeper = subprocess.Popen([sys.executable, "-S", "-c", {DEAF!r}], start_new_session=True)
    open(spec["run_dir"] + f"/{{sleeper.pid}}.pid", "w").close()
    open(spec["run_dir"] + f"/{{os.getpid()}}.pid", "w").close()
    open(spec["run_dir"] + f"/{{os.getppid()}}.pid", "w").close()
    exec({DEAF!r})
    """
    spec = child.spec(seconds=60)
    command = child.command(body)
    audit = f"""
from auditor.spec import ProbeSpec
from auditor.supervisor import watch
watch(ProbeSpec.model_validate_json({spec.model_dump_json()!r}), command={command!r})
"""
    process = subprocess.Popen([sys.executable, "-c", audit])
    give_up = time.monotonic() + 50
    while len(pids := [int(path.stem) for path in Path(spec.run_dir).glob("*.pid")]) < 3:
        assert time.monotonic() < give_up
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert all(_gone(pid) for pid in pids)
    assert not Path(spec.run_dir).exists()


def test_a_child_that_kills_the_warden_dies_with_it(child):
    ending = watch(child.spec(), command=child.command("trajectory(2.0)\nos.kill(os.getppid(), 9)\ntime.sleep(60)"))
    assert ending.killed_by == signal.SIGKILL
    assert "trajectory" in ending.gathered.parts


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_the_child_has_the_signals_of_an_ordinary_program(child):
    # The first 31: what comes after them, the C library takes for its threads, once there are some.
    rows = "(line.split() for line in open('/proc/self/status') if line.startswith(('SigIgn', 'SigBlk', 'SigCgt')))"
    look = f"[f'{{name}} {{int(mask, 16) & 0x7FFFFFFF:x}}' for name, mask in {rows}]"
    usual = subprocess.run(
        [sys.executable, "-S", "-c", f"print({look})"], check=True, capture_output=True, text=True
    ).stdout
    watched = watch(child.spec(), command=child.command(f"write('run', notes={look})"))
    assert str(watched.gathered.run["notes"]) == usual.strip()


def test_first_interrupt_asks_and_the_second_kills(child, tmp_path, monkeypatch):
    monkeypatch.setattr("auditor.supervisor.ASKED_TO_END", 50.0)
    asked, ready = tmp_path / "asked", tmp_path / "ready"
    body = f"""
    def end(*_):
        trajectory(1.0)
        open({str(asked)!r}, "w").close()

    signal.signal(signal.SIGTERM, end)
    write("run", steps=1)
    open({str(ready)!r}, "w").close()
    while 1: time.sleep(60)
    """
    interrupts = Interrupts()

    def press_twice():
        for count, place in enumerate((ready, asked), 1):
            while not place.exists():
                time.sleep(0.01)
            interrupts.count = count

    threading.Thread(target=press_twice, daemon=True).start()
    started = time.monotonic()
    ending = watch(child.spec(), command=child.command(body), interrupts=interrupts)
    assert ending.interrupted
    assert not ending.timed_out
    assert "trajectory" in ending.gathered.parts
    assert time.monotonic() - started < 40, "the second interrupt is not waited for"


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
    names = ("AUDIT_ACTIVE", "TMPDIR", "MPLBACKEND")
    write("run", notes=[os.environ[name] for name in names] + [str(os.getsid(0) == os.getpid())])
    """
    spec = child.spec()
    ending = watch(spec, command=child.command(body))
    assert ending.gathered.run["notes"] == ["1", f"{spec.run_dir}/tmp", "Agg", "True"]


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


def test_what_the_script_writes_goes_where_there_is_room(tmp_path, monkeypatch):
    """Where temporary files have little of it, that is the folder .audit of the user's own disk."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".audit").mkdir()
    free = {True: 2**40, False: 2**20}
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, free[".audit" in str(path)]))
    with scratch_folder() as folder:
        (folder / "files/home").mkdir()
        (folder / "files/home/model.pt").write_text("x")
        assert (folder / "files").resolve().parent == (tmp_path / ".audit").resolve()
        assert diverted_files(folder / "files") == ["/home/model.pt"]
    assert list((tmp_path / ".audit").iterdir()) == []
    assert not folder.exists()
