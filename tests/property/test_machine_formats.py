"""Formats that other programs read: well-formed whatever an audit holds, and without a path of this machine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

from auditor.reports import (
    difference_html,
    difference_json,
    difference_markdown,
    difference_text,
    github,
    gitlab,
    junit,
    sarif,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from model_strategies import HOSTILE, audits

from auditor.compare import compare
from auditor.declare import Severity
from auditor.evidence import Run
from auditor.result import Audit
from auditor.rooted import Rooted

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
NAMES = [name for name in HOSTILE if len(name) < 2_000]


@settings(max_examples=20)
@given(audits())
def test_sarif(audit: Audit) -> None:
    shown = sarif.render(audit)
    assert not CONTROL.search(shown)
    (run,) = json.loads(shown)["runs"]
    assert len(run["results"]) == len(audit.findings) + len(audit.suppressed)
    for result in run["results"]:
        place = result["locations"][0]["physicalLocation"]["artifactLocation"]
        assert re.fullmatch(r"(?!/)[A-Za-z0-9._~%/!$&'()*+,;=@-]+", place["uri"]), place
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    prints = [each["partialFingerprints"]["primaryLocationLineHash"] for each in run["results"]]
    assert len(prints) == len(set(prints))
    assert sarif.render(audit) == shown


@settings(max_examples=20)
@given(audits(), st.sampled_from([*Severity, None]))
def test_junit(audit: Audit, fail_on: Severity | None) -> None:
    shown = junit.render(audit, fail_on=fail_on)
    assert not CONTROL.search(shown)
    root = ElementTree.fromstring(shown.encode("utf-8"))
    for suite in root:
        for kind, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert int(suite.get(name) or 0) == sum(case.find(kind) is not None for case in suite.iter("testcase"))
    assert (int(root.get("failures") or 0) > 0) == audit.fails(fail_on)


@settings(max_examples=20)
@given(audits())
def test_github(audit: Audit) -> None:
    lines = github.render(audit).splitlines()
    assert all(re.fullmatch(r"::(error|warning|notice) (\w+=[^:,]*,?)+::.+", line) for line in lines)
    for level in ("error", "warning", "notice"):
        assert sum(line.startswith(f"::{level} ") for line in lines) <= github.MOST


@settings(max_examples=20)
@given(audits())
def test_gitlab(audit: Audit) -> None:
    shown = gitlab.render(audit)
    assert not CONTROL.search(shown)
    found = json.loads(shown)
    assert len({each["fingerprint"] for each in found}) == len(found) == len(audit.findings)
    assert all(each["location"]["path"] and each["description"] and each["check_name"] for each in found)


@settings(max_examples=15)
@given(audits(), audits())
def test_comparisons(old: Audit, new: Audit) -> None:
    found = compare(old, new)
    after = [*found.appeared, *(change.after for change in found.changed), *found.unchanged]
    before = [*found.fixed, *(gone.finding for gone in found.undecided), *(change.before for change in found.changed)]
    assert len(after) == len(new.findings)
    assert len(before) + len(found.unchanged) == len(old.findings)
    assert all(found.is_new(each) for each in found.appeared)
    for module in (difference_text, difference_markdown, difference_html):
        assert not CONTROL.search(module.render(found))
    assert json.loads(difference_json.render(found))["old"]["target"] == old.run.target


@given(
    st.one_of(st.text(max_size=50), st.sampled_from(NAMES)), st.sampled_from(["train.py", "/x/train.py", "a/b.py", ""])
)
def test_a_path_is_below_the_root_or_none(file: str, target: str) -> None:
    run = Run(target=target)
    rooted = Rooted(Audit.model_validate({"run": run, "evidence": {"run": run}}))
    for each in (file, f"/{file}", str(Path.cwd() / "sub" / "x.py"), f"C:\\{file}"):
        found = rooted.path(each)
        assert not found.startswith(("/", "../"))
        assert found != ".."
    assert rooted.path(str(Path.cwd() / "x.py")).endswith("x.py")
