"""GitLab's Code Quality report."""

from __future__ import annotations

import json
from typing import Any

from auditor.reports import gitlab

from auditor.evidence import Location
from auditor.result import Audit

KEYS = {"description", "check_name", "fingerprint", "severity", "location"}


def entries(audit: Audit) -> list[dict[str, Any]]:
    return list(json.loads(gitlab.render(audit)))


def test_what_is_written_has_the_form(audit: Audit) -> None:
    found = entries(audit)
    assert len(found) == len(audit.findings)
    assert len({each["fingerprint"] for each in found}) == len(found)
    for each in found:
        assert set(each) == KEYS
        assert each["severity"] in {"info", "minor", "major", "critical", "blocker"}
        assert each["description"]
        assert each["check_name"]
        assert not each["location"]["path"].startswith(("/", "./", ".."))
        assert each["location"]["lines"]["begin"] >= 1


def test_an_entry(faulty: Audit) -> None:
    first = entries(faulty)[0]
    assert first["description"].startswith("OPT101: The gradients of earlier steps")
    assert first["check_name"] == "missing-zero-grad"
    assert first["location"] == {"path": "train.py", "lines": {"begin": 26}}
    severities = [each["severity"] for each in entries(faulty)]
    assert severities == ["major", "major", "minor", "major", "minor", "minor", "info"]


def test_no_findings_are_an_empty_array(healthy: Audit, crashed: Audit) -> None:
    assert entries(healthy) == entries(crashed) == []


def test_suppressed_findings_are_left_out(faulty: Audit) -> None:
    assert "unseeded" not in gitlab.render(faulty)


def test_fingerprints_do_not_depend_on_lines_or_figures(faulty: Audit) -> None:
    first = faulty.findings[0]
    place = Location(file="train.py", line=99)
    moved = first.model_copy(update={"location": place, "message": "58 of 60", "measured": 9.0})
    again = entries(faulty.model_copy(update={"findings": (moved,)}))
    assert again[0]["fingerprint"] == entries(faulty)[0]["fingerprint"]
    twice = entries(faulty.model_copy(update={"findings": (first, moved)}))
    assert twice[0]["fingerprint"] == again[0]["fingerprint"] != twice[1]["fingerprint"]


def test_a_finding_without_a_place_is_shown_at_the_script(faulty: Audit) -> None:
    lost = faulty.findings[0].model_copy(update={"location": Location(file="/away/x.py", line=7)})
    (entry,) = entries(faulty.model_copy(update={"findings": (lost,), "suppressed": ()}))
    assert entry["location"] == {"path": "train.py", "lines": {"begin": 1}}


def test_rendering_is_deterministic(audit: Audit) -> None:
    assert gitlab.render(audit) == gitlab.render(Audit.model_validate_json(audit.to_json()))
