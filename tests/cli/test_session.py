"""What an audit makes of the endings of its child."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from auditor.config import Settings
from auditor.errors import AuditError
from auditor.evidence import Status
from auditor.result import Outcome as Verdicts
from auditor.session import Request, conduct, parts_wanted


@pytest.fixture
def start(child, driver, tmp_path, monkeypatch):
    """Runs an audit of train.py with a fake child."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("pass\n")

    def run(body, **settings):
        request = Request("train.py", ("--lr", "1"))
        return conduct(request, Settings(**settings), rules=driver.RULES, command=child.command(body)).audit

    return run


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("finish(3)", Status.COMPLETED),
        ("finish(3)\nos._exit(1)", Status.COMPLETED),
        ("finish(3)\nos.kill(os.getpid(), 11)", Status.COMPLETED),
        ("write('run', steps=3)", Status.COMPLETED),
        ("finish(0)", Status.NOTHING_TO_AUDIT),
        ("write('run', python='3')\nos._exit(0)", Status.NOTHING_TO_AUDIT),
        ("", Status.NOTHING_TO_AUDIT),
        ("write('run', steps=3)\nsys.exit(4)", Status.SCRIPT_FAILED),
        ("write('run', steps=3, crash={'kind': 'ValueError'})", Status.SCRIPT_FAILED),
        ("finish(0, crash={'kind': 'ValueError'})", Status.SCRIPT_FAILED),
        ("os.kill(os.getpid(), 9)", Status.SCRIPT_FAILED),
    ],
)
def test_status(start, body, status):
    assert start(body).run.status is status


def test_a_hang_is_a_timeout_and_is_judged(start):
    audit = start("trajectory(1.0, 99.0)\ntime.sleep(60)", max_time=5.0)
    assert audit.run.status is Status.TIMEOUT
    assert audit.run.steps == 2
    assert [finding.code for finding in audit.findings] == ["TST101"]


@pytest.mark.parametrize(
    ("death", "message"),
    [
        ("os.kill(os.getpid(), 11)", "SIGSEGV: segmentation fault in native code"),
        ("os.kill(os.getpid(), 9)", "SIGKILL: killed; often the system ran out of memory"),
        ("os._exit(7)", "the script ended with exit code 7"),
    ],
)
def test_a_death_that_the_child_could_not_report(start, death, message):
    crash = start(f"trajectory(1.0)\n{death}").run.crash
    assert crash.message == message
    assert crash.step == 1


def test_the_spec_carries_the_request(start):
    audit = start("finish(1, notes=[spec['target'], *spec['args'], str(spec['steps']), str(spec['attempt'])])", steps=9)
    assert audit.run.notes == ("train.py", "--lr", "1", "9", "0")
    assert audit.run.args == ("--lr", "1")


PENDING = """
if spec["attempt"] == 0:
    trajectory(1.0)
    phases = [{"name": "observing", "status": "completed"}]
    write("run", steps=1, finished=True, pending=["gradient_resets", "labels", "??"], phases=phases, notes=["a"])
    write("absent", name="gradient_resets", outcome="inconclusive", reason="the loop ended")
else:
    trajectory(99.0)
    stale(2)
    phases = [{"name": "again: " + ",".join(spec["parts"]), "status": "completed"}]
    write("run", steps=50, phases=phases, notes=["a", "b"], diverted=["x.pt"])
    END
"""


@pytest.mark.parametrize("end", ["finish(50)", "os._exit(3)", "os.kill(os.getpid(), 9)"])
def test_a_second_start_fills_gaps_and_never_spoils(start, end):
    audit = start(PENDING.replace("END", end))
    run, evidence = audit.run, audit.evidence
    assert run.status is Status.COMPLETED
    assert run.crash is None
    assert run.steps == 1
    assert evidence.trajectory.losses == (1.0,)
    assert evidence.gradient_resets.optimizers[0].stale_steps == 2
    assert "gradient_resets" not in evidence.absent
    assert [phase.name for phase in run.phases] == ["observing", "again: gradient_resets,labels"]
    assert run.notes == ("a", "b")
    assert run.diverted == ("x.pt",)


def test_no_second_start_when_no_step_was_seen(start):
    audit = start(PENDING.replace("trajectory(1.0)", "").replace("steps=1", "steps=0", 1))
    assert audit.run.status is Status.NOTHING_TO_AUDIT
    assert audit.evidence.gradient_resets is None


def test_no_second_start_without_time(start):
    audit = start("time.sleep(1.2)\n" + PENDING, max_time=2.0)
    assert audit.evidence.gradient_resets is None


def test_a_damaged_account_of_the_run_still_gives_a_report(start):
    audit = start("trajectory(1.0)\nfinish(1, phases=[{'nme': 1}], diverted=3)")
    assert audit.run.status is Status.COMPLETED
    assert "damaged: diverted, phases" in " ".join(audit.run.notes)
    assert audit.verdicts[0].outcome is Verdicts.PASS


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "interrupted")])
def test_an_interrupt_keeps_what_is_there(child, driver, tmp_path, monkeypatch, number, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("pass\n")
    there = tmp_path / "there"

    def interrupt():
        while not there.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt, daemon=True).start()
    command = child.command(f"trajectory(1.0, 99.0)\nopen({str(there)!r}, 'w').close()\ntime.sleep(60)")
    outcome = conduct(Request("train.py"), rules=driver.RULES, command=command)
    assert outcome.signal == number
    assert outcome.audit.run.status == name
    assert len(outcome.audit.findings) == 1


def test_a_syntax_error_is_the_scripts_failure_and_starts_nothing(driver, tmp_path):
    script = tmp_path / "train.py"
    script.write_text("x = 1\nprint((\n")
    audit = conduct(Request(str(script)), rules=driver.RULES, command=["/nonexistent"]).audit
    assert audit.run.status is Status.SCRIPT_FAILED
    assert audit.run.crash.kind == "SyntaxError"
    assert audit.run.crash.location.line == 2
    assert "print((" in audit.run.crash.traceback


def test_a_probe_that_cannot_start_is_an_error_of_ours(start):
    with pytest.raises(AuditError, match="the probe did not start"):
        start("sys.exit(1)")


def test_an_unknown_rule_in_the_settings(start):
    with pytest.raises(AuditError, match="no rule is called 'nope'"):
        start("finish(1)", select=("nope",))


def test_the_python_function(driver, child, tmp_path, monkeypatch, capfd):
    from auditor import audit

    (tmp_path / "train.py").write_text("pass\n")
    command = child.command("print('noise')\ntrajectory(99.0)\nfinish(1)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("auditor.supervisor.child_command", lambda: command)
    monkeypatch.setattr("auditor.registry.rules", lambda: driver.RULES)
    result = audit(tmp_path / "train.py", ["--lr", "1"], settings=Settings(steps=3))
    assert result.summary.errors == 1
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / ".audit").exists()


@pytest.mark.parametrize(
    ("target", "module", "message"),
    [
        ("trian.py", False, "there is no such file; did you mean train.py"),
        ("torchrun", False, "give the script itself"),
        ("json", False, r"did you mean the module: audit run -m json\?"),
        ("empty", False, "is a folder without a __main__.py"),
        ("book.ipynb", False, "is a notebook"),
        ("-", False, "standard input"),
        ("a\0b", False, "there is no such file"),
        ("no.such.module", True, "no module is called no.such.module"),
        ("train.py", True, "for a file: audit run train.py"),
        ("package", True, "package without a __main__"),
    ],
)
def test_targets_that_cannot_be_run(tmp_path, monkeypatch, driver, target, module, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("pass\n")
    (tmp_path / "book.ipynb").write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("raise SystemExit('imported')\n")
    with pytest.raises(AuditError, match=message):
        conduct(Request(target, module=module), rules=driver.RULES, command=["/nonexistent"])


def test_folders_and_modules_that_can_be_run(tmp_path, monkeypatch, driver, child):
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "package" / "inner"
    package.mkdir(parents=True)
    (tmp_path / "package" / "__init__.py").write_text("raise SystemExit('imported')\n")
    (package / "train.py").write_text("pass\n")
    (package / "__main__.py").write_text("pass\n")
    command = child.command("finish(1, notes=[spec['target']])")
    for request, seen in (
        (Request("package/inner"), "package/inner"),
        (Request("package.inner.train", module=True), "package.inner.train"),
        (Request("package.inner", module=True), "package.inner"),
    ):
        audit = conduct(request, rules=driver.RULES, command=command).audit
        assert audit.run.notes == (seen,)
        assert audit.run.target == request.target


def test_a_narrow_selection_asks_for_few_parts(driver):
    high, cleared = driver.RULES
    assert parts_wanted(driver.RULES, driver.RULES) == ()
    assert parts_wanted([high], driver.RULES) == ("trajectory",)
    assert parts_wanted([], driver.RULES) == ("program",)
    assert parts_wanted([cleared], driver.RULES) == ("gradient_resets",)
