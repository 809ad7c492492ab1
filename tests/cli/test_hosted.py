"""In a workflow of GitHub's: annotations, the summary of the job, and no commands but our own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from auditor import hosted
from auditor.hosted import SUMMARY_LIMIT

EVIL = "print('::error::owned', flush=True)\n"


@pytest.fixture
def summary(shell, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment of a workflow's step."""
    path = shell.folder.parent / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    return path


def outside(out: str) -> str:
    """What the runner would take commands from: everything but what stands between stop and resume."""
    return re.sub(r"(?ms)^::stop-commands::(\w+)$.*?^::\1::$", "", out)


def test_annotations_and_a_summary(shell, bodies, summary):
    result = shell("run", "train.py", body=bodies[1])
    assert result.returncode == 1
    lines = [line for line in outside(result.stdout).splitlines() if line]
    assert [line.split(" ")[0] for line in lines] == ["::error", "::warning"]
    assert "title=TST101 high-loss::The loss reached 20.0" in lines[0]
    assert "Not ready: 1 error" in result.stdout
    assert summary.read_text("utf-8") == (shell.folder / ".audit/report.md").read_text("utf-8")


def test_elsewhere_there_is_neither(shell, bodies, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert "::" not in shell("run", "train.py", body=bodies[1]).stdout


@pytest.mark.parametrize("how", ["option", "environment"])
def test_it_can_be_turned_off(shell, bodies, summary, monkeypatch, how):
    if how == "environment":
        monkeypatch.setenv("AUDIT_CI", "none")
    arguments = ["--ci", "none"] if how == "option" else []
    assert "::" not in shell("run", *arguments, "train.py", body=bodies[1]).stdout
    assert not summary.exists()


@pytest.mark.usefixtures("summary")
def test_the_script_cannot_speak_to_the_runner(shell, bodies):
    result = shell("run", "--show-output", "train.py", body=EVIL + bodies[0])
    assert "::error::owned" in result.stdout
    assert "owned" not in outside(result.stdout)


@pytest.mark.usefixtures("summary")
def test_commands_go_on_after_a_crash_and_after_a_refusal(shell):
    for body in ("os._exit(4)", "sys.exit(3)"):
        result = shell("run", "train.py", body=body)
        assert "stop-commands" in result.stdout
        assert "stop-commands" not in outside(result.stdout)


@pytest.mark.usefixtures("summary")
def test_every_run_has_a_token_of_its_own(shell):
    found = {re.search(r"::stop-commands::(\w+)", shell("run", "train.py").stdout)[1] for _ in range(2)}
    assert len(found) == 2
    assert all(len(token) == 32 for token in found)


def test_a_machine_format_keeps_standard_output(shell, bodies, summary):
    result = shell("run", "--format", "json", "train.py", body=EVIL + bodies[1])
    assert json.loads(result.stdout)["summary"]["errors"] == 1
    assert "stop-commands" in result.stderr
    assert "owned" not in outside(result.stderr)
    assert summary.exists()


def test_a_summary_is_appended(shell, summary):
    summary.write_text("before", "utf-8")
    shell("run", "train.py")
    shell("check", "train.py", "--select", "SRC")
    shell("judge", ".audit/evidence.json")
    text = summary.read_text("utf-8")
    assert text.startswith("before\n<!-- training-auditor:")
    assert text.count("<!-- training-auditor:") == 2


def test_a_full_summary_is_left_alone_and_said(shell, bodies, summary):
    summary.write_bytes(b"x" * (SUMMARY_LIMIT - 100))
    result = shell("run", "train.py", body=bodies[1])
    assert result.returncode == 1
    assert summary.stat().st_size == SUMMARY_LIMIT - 100
    assert "left out of the summary of this job, which takes 1,048,576 bytes" in result.stderr


def test_a_summary_that_cannot_be_written_is_said(shell, summary, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary.parent / "none" / "summary.md"))
    result = shell("run", "train.py")
    assert result.returncode == 0
    assert "the summary of this job could not be written: No such file" in result.stderr


def test_a_broken_report_costs_only_itself(shell, bodies, summary, monkeypatch):
    from auditor.registry import report_formats

    def broken(_):
        raise KeyError("claimed")

    monkeypatch.setattr(report_formats()["github"], "render", broken)
    result = shell("run", "train.py", body=bodies[1])
    assert result.returncode == 1
    assert "the annotations failed: KeyError: 'claimed'" in result.stderr
    assert summary.exists()


def test_a_saved_audit_is_only_rendered(shell, bodies, summary):
    shell("run", "--ci", "none", "train.py", body=bodies[1])
    result = shell("report", ".audit/audit.json")
    assert "::" not in result.stdout
    assert not summary.exists()
    assert shell("report", ".audit/audit.json", "--format", "github").stdout.startswith("::error ")


def test_where_it_applies():
    assert hosted.on_github("auto", {"GITHUB_ACTIONS": "true"})
    assert not hosted.on_github("none", {"GITHUB_ACTIONS": "true"})
    assert not hosted.on_github("auto", {"GITHUB_ACTIONS": "false"})
    assert not hosted.on_github("auto", {})
