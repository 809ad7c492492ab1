"""`audit fix` on saved audits, and on a script that a fake child audits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from auditor.edits import Suggestions
from auditor.evidence import Evidence, Location, Remedy, RemedyKind, Run
from auditor.output import render
from auditor.result import Audit, Fix, ReportedFinding, Trial
from auditor.static.source import SourceFiles

SCRIPT = """\
import torch

loader = torch.utils.data.DataLoader(data, batch_size=4)
model = Net()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for x, y in loader:
    loss = model(x, y)
    loss.backward()
    optimizer.step()
"""
HELPED = Trial(steps=60, before=1.2, after=0.31, helped=True, what="rate times 0.1")
USELESS = HELPED.model_copy(update={"helped": False})
REMEDIES = {
    "rate": (5, {"kind": RemedyKind.RATE, "amount": 0.1}),
    "higher": (5, {"kind": RemedyKind.RATE, "amount": 3.0}),
    "decay": (5, {"kind": RemedyKind.NO_PENALTY}),
    "shuffle": (3, {"kind": RemedyKind.SHUFFLE}),
    "zero": (8, {"kind": RemedyKind.ZERO_GRADIENTS, "subject": "optimizer"}),
    "warm": (5, {"kind": RemedyKind.WARM_UP}),
}
RULES = {"high-loss": "TST101", "never-cleared": "TST102"}


class Saved:
    """Saved audits of train.py in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = folder / "train.py"
        self.script.write_text(SCRIPT, encoding="utf-8")

    def finding(self, remedy: str, trial: Trial | None = HELPED, **fields: Any) -> ReportedFinding:
        line, change = REMEDIES[remedy]
        where = Location(file=str(self.script), line=line)
        suggestions = Suggestions(Run(target="train.py"), self.folder)
        diff, reason = suggestions.first([Remedy.model_validate({**change, "site": where})])
        rule = fields.pop("rule", "high-loss")
        finding = {"rule": rule, "code": RULES[rule], "family": "test", "severity": "error", "confidence": "confirmed"}
        return ReportedFinding.model_validate(
            {
                "id": f"{RULES[rule]}-{remedy}",
                "message": "It is high.",
                "location": where,
                "fix": Fix(text="Lower it.", diff=diff, by_hand=reason, trial=trial),
                "source": SourceFiles().frame(where),
                **finding,
                **fields,
            }
        )

    def audit(self, *findings: ReportedFinding) -> Path:
        run = Run(target="train.py")
        path = self.folder / ".audit" / "audit.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(Audit(run=run, findings=findings, evidence=Evidence(run=run)).to_json(), encoding="utf-8")
        return path


@pytest.fixture
def saved(shell) -> Saved:
    return Saved(shell.folder)


def test_what_helped_is_written(shell, saved):
    saved.audit(saved.finding("rate"))
    result = shell("fix")
    assert result.returncode == 0
    assert saved.script.read_text() == SCRIPT.replace("lr=1e-3", "lr=1e-4")
    assert result.stdout.splitlines() == [
        "fixed train.py:5 TST101 high-loss: rate times 0.1: loss after 60 steps 1.2 → 0.31",
        "1 fix written to train.py",
    ]


def test_fixes_of_one_file_and_even_one_line_add_up(shell, saved):
    saved.audit(*(saved.finding(name, rule=rule) for name, rule in (("rate", "high-loss"), ("zero", "never-cleared"))))
    assert shell("fix").returncode == 0
    assert saved.script.read_text() == SCRIPT.replace("lr=1e-3", "lr=1e-4").replace(
        "    loss.backward", "    optimizer.zero_grad()\n    loss.backward"
    )


def test_two_fixes_of_one_line(shell, saved):
    saved.audit(saved.finding("rate"), saved.finding("decay", rule="never-cleared"))
    assert shell("fix").returncode == 0
    assert "lr=1e-4, weight_decay=0.0)" in saved.script.read_text()


def test_two_fixes_that_contradict_each_other(shell, saved):
    saved.audit(saved.finding("rate"), saved.finding("higher", rule="never-cleared"))
    result = shell("fix")
    assert result.returncode == 1
    assert "lr=1e-4" in saved.script.read_text()
    assert "left train.py:5 TST102 never-cleared: its fix touches the same place as another one" in result.stdout


def test_a_dry_run_prints_the_diff_and_nothing_else(shell, saved):
    saved.audit(saved.finding("rate"), saved.finding("shuffle", rule="never-cleared"))
    result = shell("fix", "--dry-run")
    assert result.returncode == 0
    assert saved.script.read_text() == SCRIPT
    assert result.stdout.startswith("--- a/train.py\n+++ b/train.py\n@@ ")
    assert "+optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)" in result.stdout
    assert "2 fixes for train.py; nothing was written" in result.stderr


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"trial": USELESS}, "it was tried, and did not help"),
        ({"trial": None}, "it was not tried"),
    ],
)
def test_what_is_not_known_to_help_is_left(shell, saved, fields, reason):
    saved.audit(saved.finding("rate", **fields))
    result = shell("fix")
    assert result.returncode == 0
    assert saved.script.read_text() == SCRIPT
    assert result.stdout.splitlines() == [f"left train.py:5 TST101 high-loss: {reason}", "nothing was written"]


def test_untried_fixes_on_request(shell, saved):
    saved.audit(saved.finding("rate", trial=None), saved.finding("shuffle", trial=USELESS, rule="never-cleared"))
    result = shell("fix", "--include-untried")
    assert saved.script.read_text() == SCRIPT.replace("1e-3", "1e-4")
    assert "fixed train.py:5 TST101 high-loss: not tried" in result.stdout


def test_what_has_to_be_done_by_hand(shell, saved):
    saved.audit(saved.finding("warm"))
    result = shell("fix")
    assert result.returncode == 0
    assert "by hand: a warm-up needs a scheduler" in result.stdout


def test_a_consequence_waits_for_its_cause(shell, saved):
    saved.audit(saved.finding("rate"), saved.finding("shuffle", rule="never-cleared", caused_by="high-loss"))
    result = shell("fix")
    assert "shuffle=True" not in saved.script.read_text()
    assert "it follows from high-loss, which is fixed; audit again" in result.stdout


@pytest.mark.parametrize(
    ("options", "written"),
    [
        (["--select", "TST102"], "shuffle=True"),
        (["--ignore", "high-loss"], "shuffle=True"),
        (["--select", "high-loss"], "1e-4"),
    ],
)
def test_rules_are_chosen(shell, saved, options, written):
    saved.audit(saved.finding("rate"), saved.finding("shuffle", rule="never-cleared"))
    assert shell("fix", *options).returncode == 0
    assert [text in saved.script.read_text() for text in ("shuffle=True", "1e-4")].count(True) == 1
    assert written in saved.script.read_text()


@pytest.mark.parametrize("change", [("lr=1e-3", "lr=2e-3"), ("import torch\n", "import torch\n\n")])
def test_a_file_that_has_changed_is_refused(shell, saved, change):
    saved.audit(saved.finding("shuffle"), saved.finding("rate", rule="never-cleared"))
    saved.script.write_text(changed := SCRIPT.replace(*change))
    result = shell("fix")
    assert result.returncode == 2
    assert result.stderr == ("audit: train.py has changed since it was audited; audit it again. Nothing was written\n")
    assert saved.script.read_text() == changed


def test_fixing_twice_is_refused(shell, saved):
    saved.audit(saved.finding("rate"))
    assert shell("fix").returncode == 0
    assert shell("fix").returncode == 2
    assert "lr=1e-4" in saved.script.read_text()


def test_a_diff_cannot_lead_out_of_the_project(shell, saved, tmp_path):
    victim = tmp_path / "victim.py"
    victim.write_text(SCRIPT)
    found = saved.finding("rate")
    diff = (found.fix.diff or "").replace("train.py", "../victim.py")
    saved.audit(found.model_copy(update={"fix": found.fix.model_copy(update={"diff": diff})}))
    result = shell("fix")
    assert result.returncode == 2
    assert "lies outside of the project" in result.stderr
    assert victim.read_text() == SCRIPT


def test_a_file_that_cannot_be_written_is_left(shell, saved, monkeypatch):
    saved.audit(saved.finding("rate"))
    monkeypatch.setattr("auditor.edits.project.os.access", lambda *_: False)
    result = shell("fix")
    assert result.returncode == 0
    assert "left train.py:5 TST101 high-loss: train.py cannot be written" in result.stdout


def test_an_audit_by_name_from_another_folder(shell, saved, tmp_path, monkeypatch):
    path = saved.audit(saved.finding("rate"))
    monkeypatch.chdir(tmp_path)
    assert shell("fix", "--from", str(path)).returncode == 0
    assert "lr=1e-4" in saved.script.read_text()


def test_line_breaks_survive(shell, saved):
    saved.script.write_bytes(data := SCRIPT.replace("\n", "\r\n").encode())
    saved.audit(saved.finding("rate"), saved.finding("zero", rule="never-cleared"))
    assert shell("fix").returncode == 0
    assert saved.script.read_bytes() == data.replace(b"1e-3", b"1e-4").replace(
        b"    loss.backward", b"    optimizer.zero_grad()\r\n    loss.backward"
    )


def test_nothing_to_fix(shell, saved):
    saved.audit()
    result = shell("fix")
    assert (result.returncode, result.stdout) == (0, "nothing to fix by an edit\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fix"], "there is no .audit/audit.json here; name the script: audit fix train.py"),
        (["fix", "audit.json"], "did you mean: audit fix --from audit.json"),
        (["fix", "--from", "audit.json", "train.py"], "give one of them"),
        (["fix", "--from", "none.json"], "none.json cannot be read"),
        (["fix", "--lr", "3", "train.py"], "options for your script go after its name"),
        (["fix", "trian.py"], "there is no such file; did you mean train.py?"),
    ],
)
def test_refusals(shell, arguments, message):
    result = shell(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_without_libcst_it_says_how_to_get_it(shell, saved, monkeypatch):
    saved.audit()
    monkeypatch.setattr("auditor.fix.available", lambda: False)
    monkeypatch.setattr("auditor.edits.suggestions.available", lambda: False)
    assert shell("fix").returncode == 0, "nothing to fix needs nothing"
    result = shell("fix", "train.py")
    assert result.returncode == 2
    assert "pip install libcst" in result.stderr
    saved.audit(saved.finding("rate"))
    result = shell("fix")
    assert result.returncode == 2
    assert "pip install libcst" in result.stderr


def test_a_script_is_audited_first(shell, bodies):
    healthy, sick = bodies
    result = shell("fix", "train.py", body=healthy)
    assert (result.returncode, result.stdout) == (0, "nothing to fix by an edit\n")
    assert (shell.folder / ".audit" / "audit.json").exists()
    result = shell("fix", "train.py", body=sick)
    assert (result.returncode, result.stdout) == (0, "nothing to fix by an edit; the report has 2 findings\n")
    assert "the whole report: .audit/report.html" in result.stderr
    assert shell("fix", "train.py", body="import sys; sys.exit(3)").returncode != 0


def test_reports_show_the_diff(saved):
    run = Run(target="train.py")
    audit = Audit(run=run, findings=(saved.finding("rate"),), evidence=Evidence(run=run))
    for format in ("text", "markdown"):
        assert "1e-4" in render(audit, format, color="never")
