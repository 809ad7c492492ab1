"""JUnit XML: the form, what counts as a failure, characters that XML cannot hold."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as Xml

import pytest
from auditor.reports import junit
from hypothesis import given
from hypothesis import strategies as st

from auditor.declare import Severity
from auditor.evidence import Status
from auditor.result import Audit

SCHEMA = Path(__file__).with_name("schemas") / "junit-10.xsd"


def case(audit: Audit, name: str, **more: Severity | None) -> Xml.Element:
    root = Xml.fromstring(junit.render(audit, **more))
    return next(each for each in root.iter("testcase") if name in str(each.get("name")))


def kinds(element: Xml.Element) -> list[str]:
    return [child.tag for child in element]


def test_what_is_written_is_valid(audit: Audit) -> None:
    pytest.importorskip("xmlschema").XMLSchema(SCHEMA).validate(junit.render(audit))


def test_a_huge_audit_is_valid_and_whole(huge: Audit) -> None:
    shown = junit.render(huge)
    pytest.importorskip("xmlschema").XMLSchema(SCHEMA).validate(shown)
    assert all(f"X{number} rule-{number}" in shown for number in range(120))


def test_another_reader_counts_the_same(faulty: Audit, tmp_path: Path) -> None:
    reader = pytest.importorskip("junitparser")
    (tmp_path / "junit.xml").write_text(junit.render(faulty), "utf-8")
    suites = list(reader.JUnitXml.fromfile(str(tmp_path / "junit.xml")))
    assert sum(suite.tests for suite in suites) == len(faulty.verdicts) + 1
    assert sum(suite.failures for suite in suites) == 3
    assert sum(suite.errors for suite in suites) == 1
    assert sum(suite.skipped for suite in suites) == 4


def test_rendering_is_deterministic(audit: Audit) -> None:
    assert junit.render(audit) == junit.render(Audit.model_validate_json(audit.to_json()))


def test_suites_are_families(faulty: Audit) -> None:
    root = Xml.fromstring(junit.render(faulty))
    names = [suite.get("name") for suite in root]
    assert names[0] == "run"
    assert set(names[1:]) == {verdict.family for verdict in faulty.verdicts}
    assert root.get("tests") == "18"
    assert (root.get("failures"), root.get("errors"), root.get("time")) == ("3", "1", "14.240")


@pytest.mark.parametrize(
    ("fail_on", "failures"),
    [(Severity.ERROR, "3"), (Severity.WARNING, "6"), (Severity.NOTE, "7"), (None, "0")],
)
def test_failures_are_what_is_at_or_above_the_threshold(faulty: Audit, fail_on: Severity, failures: str) -> None:
    assert Xml.fromstring(junit.render(faulty, fail_on=fail_on)).get("failures") == failures
    warning = case(faulty, "ACT101", fail_on=fail_on)
    fails = fail_on is not None and fail_on is not Severity.ERROR
    assert kinds(warning) == (["failure"] if fails else ["system-out"])
    assert "41 of 64 units" in "".join(warning.itertext())


def test_a_failure_says_everything(faulty: Audit) -> None:
    (failure,) = case(faulty, "OPT101")
    assert failure.get("type") == "error"
    assert str(failure.get("message")).startswith("The gradients of earlier steps")
    text = str(failure.text)
    for part in ("at train.py:26", "measured 0.983", "fix: Clear the gradients", "optimizer.zero_grad()", "tried grad"):
        assert part in text


def test_what_was_not_decided_is_skipped_with_the_reason(faulty: Audit) -> None:
    (skipped,) = case(faulty, "PRC101")
    assert (skipped.tag, skipped.get("type"), skipped.get("message")) == (
        "skipped", "not-applicable", "autocast is not used",
    )  # fmt: skip
    (skipped,) = case(faulty, "FIT104")
    assert (skipped.get("type"), skipped.get("message")) == ("inconclusive", "needs 200 steps, saw 60")
    (broken,) = case(faulty, "EFF101")
    assert (broken.tag, broken.get("type")) == ("error", "rule")


def test_what_is_suppressed_is_skipped(faulty: Audit) -> None:
    one = faulty.suppressed[0].model_copy(update={"finding": faulty.findings[0], "reason": "on ]]> purpose"})
    waived = faulty.model_copy(update={"findings": faulty.findings[1:], "suppressed": (one,)})
    skipped = case(waived, "OPT101").find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "suppressed: on ]]> purpose"


def test_a_crash_is_an_error_of_its_own(crashed: Audit) -> None:
    (error,) = case(crashed, "script")
    assert error.tag == "error"
    assert "the script failed with RuntimeError" in str(error.get("message"))
    assert "line 24" in str(error.text)


def test_an_interrupted_run_is_skipped_once_steps_were_seen(faulty: Audit) -> None:
    run = faulty.run.model_copy(update={"status": Status.INTERRUPTED})
    assert kinds(case(faulty.model_copy(update={"run": run}), "script")) == ["skipped"]
    none = run.model_copy(update={"steps": 0})
    assert kinds(case(faulty.model_copy(update={"run": none}), "script")) == ["error"]


def test_a_source_check_has_no_run(faulty: Audit) -> None:
    run = faulty.run.model_copy(update={"source_only": True})
    assert 'name="run"' not in junit.render(faulty.model_copy(update={"run": run}))


@given(st.text(max_size=40))
def test_any_text_can_be_read_back(samples: ModuleType, audits: dict[str, Audit], text: str) -> None:
    base = audits["healthy"]
    finding = samples.finding("X1", "x", "family", "error", f"a {text} b", where=text, detail=(text,))
    shown = junit.render(base.model_copy(update={"findings": (finding,)}))
    failure = Xml.fromstring(shown.encode("utf-8")).find(".//failure")
    assert failure is not None
    assert str(failure.get("message")).startswith("a ")
    assert not {"\x00", "\x0b", "\x1b", "\ufffe", "\uffff"} & set(shown)


def test_what_would_end_a_section_or_a_tag_is_text(hostile: Audit) -> None:
    shown = junit.render(hostile)
    assert "]]>" not in shown.replace("]]&gt;", "")
    assert "<script" not in shown
    assert Xml.fromstring(shown).find(".//script") is None
