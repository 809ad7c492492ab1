"""The published JSON Schema: every audit fits, and the copy in the repository is the one that is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from auditor.evidence import SCHEMA_VERSION, Evidence, Run, Status
from auditor.judge import judge
from auditor.registry import rules
from auditor.result import Audit
from auditor.schema import audit_schema, schema_text

COPY = Path(__file__).resolve().parents[2] / "reports" / "audit.schema.json"


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(audit_schema())
    return jsonschema.Draft202012Validator(audit_schema())


def test_every_audit_fits(audit: Audit, validator: Any) -> None:
    """Complete, with trials, crashed, hostile, and with NaN and infinities."""
    validator.validate(json.loads(audit.to_json()))


@pytest.mark.parametrize("status", Status)
def test_an_audit_of_every_ending_fits(status: Status, validator: Any) -> None:
    run = Run(target="train.py", status=status, steps=0, exit_code=1)
    validator.validate(json.loads(judge(Evidence(run=run), rules()).to_json()))


@pytest.mark.parametrize(
    "change",
    [{"extra": 1}, {"schema_version": "9.0"}, {"summary": {"errors": "many"}}, {"findings": [{"rule": "x"}]}],
    ids=str,
)
def test_what_is_no_audit_does_not_fit(healthy: Audit, validator: Any, change: dict[str, Any]) -> None:
    assert not validator.is_valid({**json.loads(healthy.to_json()), **change})


def test_it_has_a_name_and_a_version() -> None:
    schema = audit_schema()
    assert schema["$id"] == f"urn:training-auditor:schema:audit:{SCHEMA_VERSION}"
    assert SCHEMA_VERSION in schema["title"]
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_copy_is_what_is_printed() -> None:
    assert COPY.read_text("utf-8") == schema_text(), "write it anew: make schema"
