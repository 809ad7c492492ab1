"""SARIF: GitHub's limits, places that name no machine, fingerprints that survive edits, exact fixes."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from auditor.reports import sarif
from hypothesis import given
from hypothesis import strategies as st

from auditor.compare import compare
from auditor.declare import Finding, Severity, rule
from auditor.edits.diffs import unified
from auditor.evidence import Evidence, Location, Run, Trajectory
from auditor.judge import judge
from auditor.result import Audit, Fix


def log(audit: Audit, **more: Any) -> dict[str, Any]:
    return dict(json.loads(sarif.render(audit, **more)))


def results(audit: Audit, **more: Any) -> list[dict[str, Any]]:
    return list(log(audit, **more)["runs"][0]["results"])


def uri(result: dict[str, Any]) -> str:
    return str(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])


def test_rendering_is_deterministic(audit: Audit) -> None:
    assert sarif.render(audit) == sarif.render(Audit.model_validate_json(audit.to_json()))


def test_a_huge_audit_stays_within_githubs_limits(huge: Audit) -> None:
    shown = sarif.render(huge)
    assert len(gzip.compress(shown.encode())) < 10_000_000
    assert len(json.loads(shown)["runs"][0]["results"]) <= 5_000


def test_no_finding(healthy: Audit) -> None:
    run = log(healthy)["runs"][0]
    assert run["results"] == []
    assert run["invocations"] == [{"executionSuccessful": True}]
    assert len(run["tool"]["driver"]["rules"]) == len(healthy.verdicts)


def test_rules(faulty: Audit) -> None:
    """Every judged rule is there, with its whole page, and results point to theirs."""
    run = log(faulty)["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert {each["id"] for each in rules} >= {verdict.code for verdict in faulty.verdicts}
    zero = next(each for each in rules if each["id"] == "OPT101")
    assert zero["name"] == "missing-zero-grad"
    assert "## How to fix" in zero["help"]["markdown"]
    assert "#" not in zero["help"]["text"].splitlines()[0]
    assert zero["defaultConfiguration"] == {"level": "error"}
    assert zero["properties"] == {"tags": ["training", "optimizer"], "precision": "high", "problem.severity": "error"}
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    assert "security" not in json.dumps(run["tool"])


def test_rules_do_not_depend_on_what_they_found(faulty: Audit, healthy: Audit) -> None:
    def of(audit: Audit) -> dict[str, Any]:
        return {each["id"]: each for each in log(audit)["runs"][0]["tool"]["driver"]["rules"]}

    assert {code: rule for code, rule in of(faulty).items() if code in of(healthy)} == of(healthy)


def test_results(faulty: Audit) -> None:
    found = results(faulty)
    zero, explode = found[:2]
    assert (zero["ruleId"], zero["level"]) == ("OPT101", "error")
    assert zero["message"]["text"].startswith("The gradients of earlier steps")
    place = zero["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "train.py", "uriBaseId": "SRCROOT"}
    assert place["region"] == {
        "startLine": 26, "startColumn": 9, "endLine": 26, "endColumn": 25, "snippet": {"text": "optimizer.step()"},
    }  # fmt: skip
    assert zero["properties"]["measured"] == 0.983
    assert explode["properties"]["causedBy"] == "missing-zero-grad"
    related = explode["relatedLocations"][0]
    assert related["physicalLocation"]["region"]["startLine"] == 26
    assert related["message"]["text"].startswith("follows from OPT101 missing-zero-grad")


def test_suppressed_findings_are_results_with_their_reason(faulty: Audit) -> None:
    waived = results(faulty)[-1]
    assert waived["ruleId"] == "REP101"
    assert waived["suppressions"] == [
        {"kind": "inSource", "status": "accepted", "justification": "seeds differ between runs on purpose"}
    ]
    by_file = faulty.suppressed[0].model_copy(update={"by": "configuration", "reason": ""})
    (last,) = results(faulty.model_copy(update={"findings": (), "suppressed": (by_file,)}))
    assert last["suppressions"] == [{"kind": "external", "status": "accepted"}]


def test_a_crash_is_an_invocation_that_failed(crashed: Audit) -> None:
    (invocation,) = log(crashed)["runs"][0]["invocations"]
    assert invocation["executionSuccessful"] is False
    assert invocation["exitCode"] == 1
    sentence, crash = invocation["toolExecutionNotifications"]
    assert "the script failed" in sentence["message"]["text"]
    assert crash["exception"]["kind"] == "RuntimeError"
    assert crash["locations"][0]["physicalLocation"]["region"] == {"startLine": 24}


def test_a_broken_rule_is_a_notification(faulty: Audit) -> None:
    (notice,) = log(faulty)["runs"][0]["invocations"][0]["toolExecutionNotifications"]
    assert notice["associatedRule"]["id"] == "EFF101"
    assert "ZeroDivisionError" in notice["message"]["text"]


def test_a_baseline_gives_states(faulty: Audit) -> None:
    _, second, *rest = faulty.findings
    other = second.model_copy(update={"message": "The gradient norm grew 2-fold."})
    old = faulty.model_copy(update={"findings": (other, *rest)})
    states = [each.get("baselineState") for each in results(faulty, difference=compare(old, faulty))]
    assert states == ["new", "updated", *["unchanged"] * len(rest), None]  # the last one is suppressed


# ---------------------------------------------------------------------------------------------------------- places


def with_place(faulty: Audit, file: str, target: str = "train.py") -> Audit:
    finding = faulty.findings[0].model_copy(update={"location": Location(file=file, line=3), "source": ()})
    run = faulty.run.model_copy(update={"target": target})
    return faulty.model_copy(update={"findings": (finding,), "suppressed": (), "run": run})


def test_no_path_of_this_machine(faulty: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "src").mkdir()
    monkeypatch.chdir(tmp_path / "src")
    shown = sarif.render(with_place(faulty, str(tmp_path / "src" / "a b%é.py")))
    assert str(tmp_path) not in shown
    assert '"uri": "src/a%20b%25%C3%A9.py"' in shown


def test_without_a_repository_the_root_is_where_the_audit_was_started(
    faulty: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "proj" / "lib").mkdir(parents=True)
    audit = with_place(faulty, str(tmp_path / "proj" / "lib" / "train.py"), "lib/train.py")
    for folder in (tmp_path, tmp_path / "proj", tmp_path / "proj" / "lib"):
        monkeypatch.chdir(folder)
        assert uri(results(audit)[0]) == "lib/train.py"


@pytest.mark.parametrize(
    ("file", "target", "expected"),
    [
        ("/elsewhere/of/somebody/src/train.py", "src/train.py", "src/train.py"),
        ("/elsewhere/of/somebody/lib/x.py", "train.py", "train.py"),
        ("C:\\Users\\me\\proj\\src\\train.py", "src\\train.py", "src/train.py"),
        ("../outside.py", "train.py", "train.py"),
        ("./train.py", "train.py", "train.py"),
        ("lib/../train.py", "train.py", "train.py"),
    ],
)
def test_paths_of_other_machines(
    faulty: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, target: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (result,) = results(with_place(faulty, file, target))
    assert uri(result) == expected


def test_a_finding_without_a_place_is_shown_at_the_script(faulty: Audit) -> None:
    lost = faulty.findings[0].model_copy(update={"location": None, "source": ()})
    (result,) = results(faulty.model_copy(update={"findings": (lost,), "suppressed": ()}))
    place = result["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]) == ("train.py", {"startLine": 1})


# ----------------------------------------------------------------------------------------------------- fingerprints


@rule("TST901", "any-loss", severity=Severity.ERROR, fix="Nothing.")
def any_loss(trajectory: Trajectory) -> Any:
    """A loss was seen."""
    for line in trajectory.epoch_starts:  # the lines to point at
        yield Finding(f"the loss is {trajectory.losses[0]}", location=Location(file="train.py", line=line))


def marks(lines: str, *at: int, loss: float = 1.0) -> list[str]:
    Path("train.py").write_text(lines, "utf-8")
    seen = Trajectory(losses=(loss,), learning_rates=(0.1,), grad_norms=(1.0,), epoch_starts=at)
    audit = judge(Evidence(run=Run(target="train.py", steps=1), trajectory=seen), [any_loss])
    return [each["partialFingerprints"]["primaryLocationLineHash"] for each in results(audit)]


def test_fingerprints_survive_moves_and_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = marks("a = 1\nstep()\n", 2)
    assert re.fullmatch(r"[0-9a-f]{16}:1", first[0])
    assert marks("# new\n\na = 1\nif a:\n    step()  \n", 5, loss=9.0) == first
    assert marks("a = 1\nstep(2)\n", 2) != first
    one, other = marks("step()\nstep()\n", 1, 2)
    assert (one, other) == (first[0], first[0].replace(":1", ":2"))


# ------------------------------------------------------------------------------------------------------------ fixes


def applied(text: str, result: dict[str, Any]) -> str:
    """What a viewer would make of the file."""
    lines = text.splitlines(keepends=True)
    starts = [sum(map(len, lines[:n])) for n in range(len(lines) + 1)]
    (change,) = result["fixes"][0]["artifactChanges"]
    for each in reversed(change["replacements"]):
        region = each["deletedRegion"]
        start = starts[region["startLine"] - 1] + region["startColumn"] - 1
        end = starts[region["endLine"] - 1] + region["endColumn"] - 1
        text = text[:start] + each.get("insertedContent", {"text": ""})["text"] + text[end:]
    return text


def fixed(audit: Audit, diff: str) -> dict[str, Any]:
    finding = audit.findings[0].model_copy(update={"fix": Fix(text="Change it.", diff=diff)})
    return results(audit.model_copy(update={"findings": (finding,), "suppressed": ()}))[0]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a\nb\nc\n", "a\nB\nc\n"),
        ("a\nb\nc\n", "a\nc\n"),
        ("a\nc\n", "a\nb\nc\n"),
        ("a\nb\n", "a\nb\nc\nd\n"),
        ("a\nb", "a\nb\nc"),
        ("a\nb\nc\n", "a\n"),
        ("a\n", "x\ny\na\n"),
        ("\n".join("abcdefghijklmnop"), "\n".join("aBcdefghijklmnoPq")),
    ],
)
def test_fixes_do_what_the_diff_does(faulty: Audit, before: str, after: str) -> None:
    result = fixed(faulty, unified("train.py", before, after))
    assert applied(before, result) == after


@given(
    st.lists(st.sampled_from(["a", "b", "  c", ""]), max_size=12),
    st.lists(st.sampled_from(["a", "b", "d"]), max_size=12),
)
def test_any_fix_does_what_its_diff_does(audits: dict[str, Audit], old: list[str], new: list[str]) -> None:
    before, after = ("".join(line + "\n" for line in lines) for lines in (["start", *old], ["start", *new]))
    diff = unified("train.py", before, after)
    if diff:
        assert applied(before, fixed(audits["faulty"], diff)) == after


@pytest.mark.parametrize(
    "diff", ["", "no diff", "@@ -1 +1 @@\n-a\n+b", "--- a//etc/x\n+++ b//etc/x\n@@ -1 +1 @@\n-a\n+b\n"]
)
def test_what_is_no_diff_of_the_sources_gives_no_fix(faulty: Audit, diff: str) -> None:
    assert "fixes" not in fixed(faulty, diff)


def test_a_fix_is_called_what_was_tried(faulty: Audit) -> None:
    diff = unified("train.py", "a\n", "b\n")
    assert fixed(faulty, diff)["fixes"][0]["description"] == {"text": "Change it."}
    tried = faulty.findings[0].fix.model_copy(update={"diff": diff})
    finding = faulty.findings[0].model_copy(update={"fix": tried})
    (result,) = results(faulty.model_copy(update={"findings": (finding,), "suppressed": ()}))
    assert result["fixes"][0]["description"] == {"text": "gradients cleared once an update"}


# ------------------------------------------------------------------------------------------------------ hostile text


def test_messages_hold_no_links_or_control_characters(hostile: Audit) -> None:
    shown = sarif.render(hostile)
    assert not [each for each in results(hostile) if "](" in each["message"]["text"]]
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
