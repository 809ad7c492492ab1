"""The audit's JSON."""

from __future__ import annotations

import json

from auditor.reports import json as report

from auditor.result import Audit


def test_it_is_the_audit(audit: Audit) -> None:
    page = report.render(audit)
    assert json.loads(page)["schema_version"] == audit.schema_version
    assert report.render(Audit.model_validate_json(page)) == page
