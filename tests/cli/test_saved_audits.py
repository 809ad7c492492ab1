"""Commands on saved audits: every format from one of them, comparisons, the schema, `auditor.load`."""

from __future__ import annotations

import json
import subprocess
import sys
from xml.etree import ElementTree

import pytest

import auditor
from auditor.errors import AuditError
from auditor.registry import comparison_formats, report_formats

FORMATS = {"text", "json", "markdown", "html", "sarif", "junit", "github", "gitlab"}


@pytest.fixture
def saved(shell, bodies):
    """old.json, of a script with an error and a warning, and new.json, without."""
    for name, body in (("old", bodies[1]), ("new", bodies[0])):
        shell("run", "-q", "-o", f"{name}.json", "train.py", body=body)
    return shell


def test_formats_are_discovered():
    assert set(report_formats()) >= FORMATS
    assert set(comparison_formats()) >= {"text", "json", "markdown", "html"}
    suffixes = [suffix for module in report_formats().values() for suffix in module.SUFFIXES]
    assert len(suffixes) == len(set(suffixes))


def test_one_run_writes_every_format(shell, bodies):
    names = ["a.html", "a.md", "a.json", "a.txt", "a.sarif", "a.xml"]
    names += ["gitlab:g.json", "github:annotations", "junit:j.log"]
    outputs = [part for name in names for part in ("-o", name)]
    assert shell("run", "-q", *outputs, "train.py", body=bodies[1]).returncode == 1
    read = {name: (shell.folder / name.partition(":")[2] or name).read_text() for name in names if ":" in name}
    assert json.loads(read["gitlab:g.json"])[0]["check_name"] == "high-loss"
    assert read["github:annotations"].startswith("::error ")
    assert ElementTree.fromstring(read["junit:j.log"]).get("failures") == "1"
    assert json.loads((shell.folder / "a.sarif").read_text())["version"] == "2.1.0"
    assert (shell.folder / "a.xml").read_text() == read["junit:j.log"]
    assert json.loads((shell.folder / "a.json").read_text())["schema_version"]  # the suffix is the audit's own


@pytest.mark.parametrize("format", sorted(FORMATS - {"text"}))
def test_a_saved_audit_gives_what_the_run_gave(saved, format):
    first = saved("report", "old.json", "--format", format, "-o", f"{format}:again")
    assert first.returncode == 0
    assert (saved.folder / "again").read_text().strip() == first.stdout.strip()


@pytest.mark.parametrize(("threshold", "failures"), [("error", "1"), ("warning", "2"), ("never", "0")])
def test_what_junit_counts_can_be_chosen(saved, threshold, failures):
    result = saved("report", "old.json", "--format", "junit", "--fail-on", threshold)
    assert (result.returncode, ElementTree.fromstring(result.stdout).get("failures")) == (0, failures)


def test_junit_of_a_run_follows_its_own_threshold(shell, bodies):
    shell("run", "-q", "--fail-on", "warning", "-o", "a.xml", "train.py", body=bodies[1])
    assert ElementTree.parse(shell.folder / "a.xml").getroot().get("failures") == "2"


# ----------------------------------------------------------------------------------------------------------- diff


@pytest.mark.parametrize(
    ("old", "new", "arguments", "code"),
    [
        ("new", "old", [], 1),
        ("new", "old", ["--fail-on", "never"], 0),
        ("old", "new", ["--fail-on", "note"], 0),
        ("old", "old", ["--fail-on", "note"], 0),
    ],
)
def test_exit_codes_of_diff(saved, old, new, arguments, code):
    result = saved("diff", f"{old}.json", f"{new}.json", *arguments)
    assert (result.returncode, result.stderr) == (code, "")


def test_only_what_is_new_fails(saved, bodies):
    worse = bodies[1].replace("stale(2)", "stale(0)")
    saved("run", "-q", "-o", "one.json", "train.py", body=worse)
    assert saved("diff", "one.json", "old.json").returncode == 0  # a new warning
    assert saved("diff", "one.json", "old.json", "--fail-on", "warning").returncode == 1


def test_diff_says_what_happened(saved):
    assert saved("diff", "new.json", "old.json").stdout.startswith("✖ 2 new findings (1 error), 0 fixed, 0 as before.")
    out = saved("diff", "old.json", "new.json").stdout
    assert out.startswith("✔ Nothing new, 2 fixed, 0 as before.")
    assert "TST101 high-loss" in out


def test_diff_writes_files(saved):
    result = saved("diff", "old.json", "new.json", "--format", "json", "-o", "d.md", "-o", "d.html", "-o", "text:d")
    assert [each["rule"] for each in json.loads(result.stdout)["fixed"]] == ["high-loss", "never-cleared"]
    assert (saved.folder / "d.md").read_text().startswith("<!-- training-auditor:difference -->")
    assert (saved.folder / "d.html").read_text().startswith("<!doctype html>")
    assert "2 fixed" in (saved.folder / "d").read_text()


def test_diff_warns_of_other_rules(saved, bodies):
    saved("run", "-q", "--select", "TST102", "-o", "part.json", "train.py", body=bodies[0])
    out = saved("diff", "old.json", "part.json").stdout
    assert "not judged any more: TST101" in out
    assert "1 fixed, 0 as before, 1 open" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["diff", "old.json"], "Missing argument 'NEW.json'"),
        (["diff", "old.json", "none.json"], "none.json cannot be read"),
        (["diff", "old.json", ".audit/evidence.json"], "holds evidence only"),
        (["diff", "old.json", "new.json", "--format", "sarif"], "there is no format 'sarif'; known are html, json"),
        (["diff", "old.json", "new.json", "-o", "d.sarif"], "no format has the suffix '.sarif'"),
        (["run", "--baseline", "none.json", "train.py"], "none.json cannot be read"),
        (["run", "-o", "a.xml", "-o", "gitlab:none/a.json", "train.py"], "there is no folder"),
    ],
)
def test_refusals(saved, arguments, message):
    result = saved(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


# ------------------------------------------------------------------------------------------------------- baseline


def test_a_baseline_marks_what_is_new_and_leaves_the_exit_code(saved, bodies):
    result = saved("run", "--baseline", "new.json", "-o", "a.md", "-o", "a.sarif", "train.py", body=bodies[1])
    assert result.returncode == 1
    assert "against the baseline 2 new findings (1 error)" in result.stdout
    assert (saved.folder / "a.md").read_text().count("· **new**") == 2
    (run,) = json.loads((saved.folder / "a.sarif").read_text())["runs"]
    assert [each["baselineState"] for each in run["results"]] == ["new", "new"]
    same = saved("report", "old.json", "--baseline", "old.json", "--format", "markdown").stdout
    assert "**new**" not in same
    assert "Against the baseline: Nothing new, 0 fixed, 2 as before." in same
    assert saved("judge", "old.json", "--baseline", "old.json").returncode == 1


# ---------------------------------------------------------------------------------------------------- public names


def test_a_saved_audit_is_loaded(saved):
    audit = auditor.load("old.json")
    assert isinstance(audit, auditor.Audit)
    assert audit == auditor.load(saved.folder / "old.json")
    assert repr(audit) == str(audit) == "<Audit of train.py: completed, 1 errors, 1 warnings, 0 notes>"
    with pytest.raises(AuditError, match=r"none\.json cannot be read"):
        auditor.load("none.json")


@pytest.mark.parametrize(
    "arguments",
    [["report", "old.json", "-o", "a.sarif", "-o", "a.xml", "-o", "a.html", "-o", "gitlab:g", "-o", "github:h"],
     ["diff", "old.json", "new.json", "--fail-on", "never", "-o", "d.md", "-o", "d.html"]],
    ids=["report", "diff"],
)  # fmt: skip
def test_rendering_needs_no_torch(saved, arguments):
    code = f"""if True:
        import sys
        sys.modules["torch"] = None  # importing it raises
        from auditor import cli
        try:
            cli.main({arguments!r})
        except SystemExit as ending:
            sys.exit(ending.code)
    """
    result = subprocess.run([sys.executable, "-c", code], cwd=saved.folder, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
