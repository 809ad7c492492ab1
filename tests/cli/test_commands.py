"""The commands as a user types them: exit codes, streams, sentences."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

# ------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "Missing argument 'TARGET'"),
        (["train.py", "--lr", "1"], "did you mean: audit run train.py --lr 1"),
        (["rnu", "train.py"], "did you mean run?"),
        (["run", "--lr", "0.1", "train.py"], "options for your script go after its name"),
        (["run", "--step", "3", "train.py"], "did you mean --steps?"),
        (["run", "--steps", "0", "train.py"], "0 is not in the range x>=1"),
        (["run", "--max-time", "soon", "train.py"], "'soon' is not a time"),
        (["run", "--max-time", "0", "train.py"], "not longer than 0 s"),
        (["run", "--fail-on", "bad", "train.py"], "'bad' is not one of"),
        (["run", "--format", "pdf", "train.py"], "there is no format 'pdf'; known are"),
        (["run", "--select", "nope", "train.py"], "--select: no rule is called 'nope'"),
        (["run", "--select", ",", "train.py"], "--select names no rule"),
        (["run", "--ignore", "hi-loss", "train.py"], "--ignore: no rule is called 'hi-loss'; did you mean high-loss"),
        (["run", "--config", "none.toml", "train.py"], "none.toml: there is no such configuration file"),
        (["run", "-o", "report.pdf", "train.py"], "no format has the suffix '.pdf'"),
        (["run", "-o", "report", "train.py"], "no format has the suffix ''"),
        (["run", "-o", "none/report.md", "train.py"], "there is no folder"),
        (["run", "-o", "markdown:.", "train.py"], "it is a folder"),
        (["run", "trian.py"], "trian.py: there is no such file; did you mean train.py?"),
        (["run", "-m", "no.module"], "no module is called no.module"),
        (["explain", "hi-loss"], "did you mean high-loss"),
        (["explain", ""], "no rule is called ''"),
        (["rules", "--select", "XYZ"], "no rule is called 'XYZ'"),
        (["judge", "none.json"], "none.json cannot be read: No such file or directory"),
        (["report", "train.py"], "train.py is not JSON, or damaged"),
    ],
)
def test_refusals_are_one_sentence_and_exit_with_2(shell, arguments, message):
    result = shell(*arguments)
    code, out, err = result.returncode, result.stdout, result.stderr
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert out == ""
    assert not (shell.folder / ".audit").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "was not written by this tool"),
        ('{"schema_version": "1.0", "run": {"target": 3}}', "is not saved evidence, or damaged: run.target"),
        ('{"schema_version": "9.0", "run": {"target": "x"}}', "was written by a newer version"),
        ('{"schema_version": "0.9", "run": {"target": "x"}}', "was written by an older version"),
        ('{"schema_version": "x", "run": {"target": "x"}}', "has the unknown schema version 'x'"),
        ('{"schema_version": "1.0", "run": {"target": "x"}, "extra": 1}', "extra"),
    ],
)
def test_evidence_that_cannot_be_judged(shell, content, message):
    (shell.folder / "e.json").write_text(content)
    result = shell("judge", "e.json")
    code, err = result.returncode, result.stderr
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_a_mistake_in_the_configuration(shell):
    (shell.folder / "pyproject.toml").write_text("[tool.auditor]\n\nstep = 3\n")
    result = shell("run", "train.py")
    code, err = result.returncode, result.stderr
    assert (code, err) == (2, "audit: pyproject.toml:3: unknown key 'step'; did you mean 'steps'?\n")


def test_the_environment_is_below_the_command_line(shell, monkeypatch):
    monkeypatch.setenv("AUDIT_STEPS", "none")
    result = shell("run", "train.py")
    code, err = result.returncode, result.stderr
    assert code == 2
    assert "AUDIT_STEPS" in err or "--steps" in err
    monkeypatch.setenv("AUDIT_SELECT", "nope,TST101")
    result = shell("run", "--steps", "3", "train.py")
    code, err = result.returncode, result.stderr
    assert "no rule is called 'nope'" in err


def test_an_internal_error_exits_with_2(shell, monkeypatch):
    def broken():
        raise RuntimeError("a bug")

    monkeypatch.setattr("auditor.registry.rules", broken)
    result = shell("rules")
    code, err = result.returncode, result.stderr
    assert code == 2
    assert err.endswith("audit: internal error: RuntimeError: a bug\n")


# ------------------------------------------------------------------------------------------ rules, explain, schema


def test_rules(shell):
    out = shell("rules").stdout
    assert "TST101  high-loss      error    The loss is high." in out
    out = shell("rules", "--select", "never-cleared", "--format", "json").stdout
    assert [(rule["code"], rule["needs"]) for rule in json.loads(out)] == [("TST102", ["gradient_resets"])]
    out = shell("rules", "--format", "markdown").stdout
    assert "| TST101 | high-loss | error | The loss is high. |" in out


@pytest.mark.parametrize("name", ["high-loss", "TST101", "tst101"])
def test_explain(shell, name):
    out = shell("explain", name).stdout
    for text in ("# TST101 high-loss (error)", "## Why is it bad?", "`max-loss = 10.0`", "https://example.org"):
        assert text in out
    assert "\x1b" not in out
    assert "\x1b[1m# TST101" in shell("explain", name, "--color", "always").stdout


def test_explain_of_a_family_lists_it(shell):
    assert "never-cleared" in shell("explain", "TST").stdout


def test_schema_describes_an_audit(shell):
    out = shell("schema").stdout
    assert {"findings", "verdicts", "summary", "run"} <= set(json.loads(out)["properties"])


def test_version(shell):
    from auditor import __version__

    assert shell("--version").stdout == f"audit, version {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["rules"], ["explain", "missing-zero-grad"]])
def test_nothing_dear_is_imported(arguments):
    code = f"""if True:
        import sys
        from auditor import cli
        try:
            cli.main({arguments!r})
        except SystemExit as ending:
            dear = {{"torch", "scipy", "numpy", "rich", "jinja2", "PIL"}} & set(sys.modules)
            sys.exit(" ".join(dear) or ending.code)
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


# ------------------------------------------------------------------------------------------------------------ run


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("HEALTHY", 0),
        ("SICK", 1),
        ("trajectory(99.0)\nos._exit(4)", 3),
        ("finish(0)", 5),
        ("sys.exit(3)", 2),
    ],
)
def test_exit_codes(shell, bodies, body, code):
    healthy, sick = bodies
    result = shell("run", "train.py", body={"HEALTHY": healthy, "SICK": sick}.get(body, body))
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--fail-on", "never"], 0),
        (["--select", "TST102"], 0),
        (["--ignore", "high-loss"], 0),
        (["--fail-on", "note"], 1),
    ],
)
def test_what_fails_can_be_chosen(shell, bodies, arguments, code):
    assert shell("run", "-q", *arguments, "train.py", body=bodies[1]).returncode == code


def test_a_timeout_before_the_first_step(shell):
    result = shell("run", "--max-time", "5s", "train.py", body="write('run', python='3')\ntime.sleep(60)")
    assert result.returncode == 5
    assert "the time limit of 5 s passed before the first training step was seen" in result.stderr


def test_a_timeout_later_is_judged(shell):
    result = shell("run", "--max-time", "5", "train.py", body="trajectory(99.0)\ntime.sleep(60)")
    assert result.returncode == 1


def test_a_syntax_error(shell):
    (shell.folder / "train.py").write_text("x = (\n")
    result = shell("run", "train.py", body="raise SystemExit(9)")
    assert result.returncode == 3
    assert "the script failed at train.py:1 after 0 training steps: SyntaxError: '(' was never closed" in result.stderr


CRASH = """
traceback = "Traceback (most recent call last):\\n  File 'train.py', line 3\\nValueError: no data"
print("before it")
print(traceback, file=sys.stderr)
where = {"file": os.path.abspath("train.py"), "line": 3}
crash = {"kind": "ValueError", "message": "no data", "traceback": traceback, "location": where}
write("run", steps=2, crash=crash)
sys.exit(1)
"""


def test_a_crash_shows_the_traceback_once_and_the_last_output(shell):
    result = shell("run", "-q", "train.py", body=CRASH)
    assert result.returncode == 3
    assert result.stderr.count("Traceback (most recent call last)") == 1
    assert "before it" in result.stderr
    assert result.stderr.endswith("the script failed at train.py:3 after 2 training steps: ValueError: no data\n")


def test_a_crash_shown_live_is_not_shown_again(shell):
    result = shell("run", "--show-output", "train.py", body=CRASH)
    assert result.stderr.count("Traceback (most recent call last)") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupt_gives_a_partial_report(shell, number, code):
    process = shell.start(["run", "train.py"], "trajectory(99.0)\nwrite('progress', phase='observe')\ntime.sleep(60)")
    assert process.stderr.readline() == "audit: observe\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "The loss reached 99" in out
    assert "Traceback" not in err
    assert shell.audit()["run"]["status"] == "interrupted"


def test_the_scripts_arguments(shell):
    body = "finish(1, notes=spec['args'])"
    shell("run", "train.py", "--", "--steps", "9", "--help", "--", body=body)
    audit = shell.audit()
    assert audit["run"]["args"] == audit["run"]["notes"] == ["--steps", "9", "--help", "--"]


def test_options_reach_the_child(shell):
    body = "finish(1, notes=[json.dumps(spec)])"
    shell(
        "run",
        "--steps",
        "9",
        "--device",
        "cpu",
        "--seed",
        "4",
        "--no-experiments",
        "--select",
        "TST101",
        "train.py",
        body=body,
    )
    spec = json.loads(shell.audit()["run"]["notes"][0])
    wanted = {"steps": 9, "device": "cpu", "seed": 4, "experiments": False, "parts": ["trajectory"]}
    assert {key: spec[key] for key in wanted} == wanted


def test_a_machine_format_has_standard_output_for_itself(shell, bodies):
    body = "print('noise', flush=True)\n" + bodies[1]
    result = shell("run", "--show-output", "--format", "json", "train.py", body=body)
    assert json.loads(result.stdout)["summary"]["errors"] == 1
    assert "noise" in result.stderr
    result = shell("run", "--show-output", "train.py", body=body)
    assert "noise" in result.stdout


def test_output_is_logged_and_not_shown(shell, bodies):
    result = shell("run", "train.py", body="print('noise')\n" + bodies[0])
    assert "noise" not in result.stdout + result.stderr
    assert (shell.folder / ".audit/output.log").read_text() == "noise\n"


def test_files_are_written(shell):
    result = shell("run", "-q", "-o", "a.json", "-o", "b.md", "-o", "c.txt", "-o", "markdown:d.log", "train.py")
    assert result.returncode == 0
    assert result.stderr == ""
    assert json.loads((shell.folder / "a.json").read_text())["run"]["steps"] == 3
    assert (shell.folder / "b.md").read_text() == (shell.folder / "d.log").read_text()
    kept = {path.name for path in (shell.folder / ".audit").iterdir()}
    assert {".gitignore", "audit.json", "evidence.json", "output.log", "report.md"} <= kept
    assert (shell.folder / ".audit/.gitignore").read_text() == "*\n"
    assert (shell.folder / "c.txt").exists()


def test_without_a_folder_for_the_results_it_goes_on(shell):
    (shell.folder / ".audit").write_text("in the way")
    result = shell("run", "train.py")
    assert result.returncode == 0
    assert "audit: the folder .audit cannot be written here" in result.stderr


def test_an_output_that_fails_at_the_end(shell):
    body = "import shutil; shutil.rmtree('out')\nfinish(1)"
    (shell.folder / "out").mkdir()
    result = shell("run", "-q", "-o", "out/a.json", "train.py", body=body)
    assert result.returncode == 2
    assert "could not be written" in result.stderr


def test_a_report_that_fails_costs_only_itself(shell, monkeypatch):
    from auditor.registry import report_formats

    def broken(_):
        raise KeyError("claimed")

    (shell.folder / ".audit").mkdir()
    (shell.folder / ".audit/report.md").write_text("of an earlier audit")
    monkeypatch.setattr(report_formats()["markdown"], "render", broken)
    result = shell("run", "-q", "-o", "a.md", "-o", "a.json", "train.py")
    assert result.returncode == 2
    assert "a.md could not be written: its report failed: KeyError: 'claimed'" in result.stderr
    assert (shell.folder / "a.json").exists()
    assert not (shell.folder / ".audit/report.md").exists()
    assert shell.audit()["run"]["steps"] == 3


def test_nothing_stays_in_the_temporary_folder(shell, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    shell("run", "train.py", body="assert spec['run_dir'].startswith(os.environ['TMPDIR'][:-4])\nfinish(1)")
    assert list(scratch.iterdir()) == []


def test_a_reader_that_goes_away_is_no_error(shell):
    read, write = os.pipe()
    os.close(read)
    process = shell.start(["run", "-q", "train.py"], stdout=write)
    os.close(write)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def test_a_closed_standard_output_is_no_error(shell):
    process = shell.start(["run", "train.py"], stdout=None, preexec_fn=lambda: os.close(1))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in err


def test_an_ascii_terminal_gets_ascii(shell, bodies):
    process = shell.start(["run", "train.py"], bodies[1], env={**os.environ, "PYTHONIOENCODING": "ascii"})
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out.isascii()


@pytest.mark.parametrize(
    ("arguments", "env", "colored"),
    [
        ([], {}, False),
        ([], {"FORCE_COLOR": "1"}, True),
        ([], {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
        (["--color", "never"], {"FORCE_COLOR": "1"}, False),
    ],
)
def test_colour(shell, bodies, monkeypatch, arguments, env, colored):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    result = shell("run", *arguments, "train.py", body=bodies[1])
    assert ("\x1b[" in result.stdout) is colored


# ---------------------------------------------------------------------------------------------- judge and report


def test_saved_evidence_is_judged_again(shell, bodies):
    shell("run", "train.py", body=bodies[1])
    for source in (".audit/evidence.json", ".audit/audit.json"):
        assert shell("judge", source).returncode == 1
    result = shell("judge", ".audit/evidence.json", "--fail-on", "never", "--format", "json", "-o", "again.md")
    assert result.returncode == 0
    again, first = json.loads(result.stdout), shell.audit()
    assert (again.pop("judged_by")["fail_on"], first.pop("judged_by")["fail_on"]) == (None, "error")
    assert again == first
    assert (shell.folder / "again.md").exists()
    (shell.folder / "auditor.toml").write_text("[limits.high-loss]\nmax-loss = 50\n")
    assert shell("judge", ".audit/evidence.json").returncode == 0


def test_a_saved_audit_is_rendered_again(shell, bodies):
    first = shell("run", "train.py", body=bodies[1])
    again = shell("report", ".audit/audit.json")
    assert (again.returncode, again.stdout) == (0, first.stdout)
    result = shell("report", ".audit/evidence.json")
    assert result.returncode == 2
    assert "`audit judge .audit/evidence.json` judges it" in result.stderr


# -------------------------------------------------------------------------------------------------- on a terminal


def test_a_script_that_asks_is_heard_and_answered(shell):
    body = """
    write("progress", phase="observe", step=3, of=60, left=12.4)
    time.sleep(0.3)
    answer = input("your name? ")
    finish(1, notes=[answer])
    """
    ours, theirs = pty.openpty()
    process = shell.start(["run", "train.py"], body, stdin=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    give_up = time.monotonic() + 60
    while b"your name? " not in seen and time.monotonic() < give_up:
        seen += os.read(ours, 1000)
    os.write(ours, b"Ada\n")
    assert process.wait(timeout=60) == 0
    os.close(ours)
    assert b"audit: observe 3/60" in seen
    assert b"about 12 s to go" in seen
    notes = shell.audit()["run"]["notes"]
    assert notes == ["Ada"]
