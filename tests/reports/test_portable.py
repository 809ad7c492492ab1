"""No report for people names the folders of the machine; places for machines stay what they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from auditor.reports import github, gitlab, html, junit, markdown, sarif, text
from auditor.reports.portable import portable

from auditor import evidence as ev
from auditor.compare import compare
from auditor.result import Audit

TRACE = """Traceback (most recent call last):
  File "{here}/train.py", line 24, in <module>
    loss = criterion(model(x), y)
  File "/opt/my envs/torch/lib/python3.11/site-packages/torch/nn/modules/module.py", line 1778, in _call_impl
    return forward_call(*args, **kwargs)
  File "/usr/lib/python3.11/random.py", line 3, in choice
FileNotFoundError: '/home/jane/data/x.csv'"""


@pytest.fixture
def told(crashed: Audit, faulty: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Audit:
    """An audit made in a checkout at `tmp_path`, in its folder `work`."""
    (tmp_path / ".git").mkdir()
    here = tmp_path / "work"
    here.mkdir()
    monkeypatch.chdir(here)
    crash = ev.Crash(
        kind="FileNotFoundError",
        message=f"cannot read {here}/data/x.csv",
        traceback=TRACE.format(here=here),
        location=ev.Location(file=f"{here}/train.py", line=24),
    )
    finding = faulty.findings[0].model_copy(
        update={
            "location": ev.Location(file=f"{here}/lib/net.py", line=3),
            "detail": (f"backward() is called at {here}/train.py:14",),
            "caused_by": None,
        }
    )
    run = crashed.run.model_copy(update={"crash": crash, "notes": ("caches lie in /root/.cache/torch",)})
    return crashed.model_copy(update={"run": run, "findings": (finding,), "evidence": ev.Evidence(run=run)})


@pytest.mark.parametrize("format", [html, text, markdown, junit, sarif, github, gitlab], ids=lambda m: m.FORMAT)
def test_no_folder_of_the_machine_is_named(told: Audit, tmp_path: Path, format: object) -> None:
    shown = format.render(told)  # type: ignore[attr-defined]
    for folder in (str(tmp_path), "/home/jane", "/opt/my envs", "/usr/lib", "/root"):
        assert folder not in shown


def test_files_are_named_below_the_project_the_packages_and_the_standard_library(told: Audit) -> None:
    shown = markdown.render(told)
    for name in ('"train.py"', '"torch/nn/modules/module.py"', '"random.py"', "'~/data/x.csv'"):
        assert name in shown
    assert "train.py:24" in shown
    assert "lib/net.py:3" in text.render(told)


def test_places_for_machines_are_below_the_repository(told: Audit) -> None:
    (result,) = json.loads(sarif.render(told))["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place["uri"] == "work/lib/net.py"
    assert "work/train.py" in junit.render(told)


def test_what_has_no_paths_is_left_alone(healthy: Audit, hostile: Audit) -> None:
    assert portable(healthy)[0] is healthy
    assert portable(hostile)[0].findings[0].message == hostile.findings[0].message


def test_what_was_typed_and_source_lines_stay(told: Audit) -> None:
    run = told.run.model_copy(update={"target": "/home/jane/train.py", "args": ("--data", "/home/jane/x")})
    changed, _ = portable(told.model_copy(update={"run": run}))
    assert (changed.run.target, changed.run.args) == (run.target, run.args)
    assert changed.findings[0].source == told.findings[0].source


def test_what_is_new_is_marked_all_the_same(told: Audit, healthy: Audit) -> None:
    old = healthy.model_copy(update={"run": told.run})
    assert "· **new** |" in markdown.render(told, difference=compare(old, told))
    log = json.loads(sarif.render(told, difference=compare(told, told)))
    assert [each["baselineState"] for each in log["runs"][0]["results"]] == ["unchanged"]
