"""SARIF: the form of what is written, by a closed schema of the part of the standard that is used."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from auditor.reports import sarif

from auditor.result import Audit

jsonschema = pytest.importorskip("jsonschema")

TEXT = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0}
LINE = {"type": "integer", "minimum": 1}
LEVEL = {"enum": ["note", "warning", "error"]}
BAG = {"type": "object"}


def closed(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def listed(item: dict[str, Any], **more: int) -> dict[str, Any]:
    return {"type": "array", "items": item, **more}


SAID = closed({"text": TEXT})
DESCRIBED = closed({"text": {**TEXT, "maxLength": 1024}})
ARTIFACT = closed({"uri": {"type": "string", "pattern": r"^[^/\\:][^\\:]*$"}, "uriBaseId": {"const": "SRCROOT"}})
SPAN = {"startLine": LINE, "startColumn": LINE, "endLine": LINE, "endColumn": LINE}
REGION = closed({"startLine": LINE}, {**SPAN, "snippet": closed({"text": TEXT})})
PHYSICAL = closed({"artifactLocation": ARTIFACT, "region": REGION})
LOGICAL = closed({}, {"name": TEXT, "fullyQualifiedName": TEXT, "kind": TEXT})
LOCATION = closed({"physicalLocation": PHYSICAL}, {"logicalLocations": listed(LOGICAL), "id": COUNT, "message": SAID})
REPLACEMENT = closed({"deletedRegion": closed(SPAN)}, {"insertedContent": SAID})
CHANGE = closed({"artifactLocation": ARTIFACT, "replacements": listed(REPLACEMENT, minItems=1)})
RULE = closed(
    {
        "id": TEXT,
        "name": {**TEXT, "maxLength": 255},
        "shortDescription": DESCRIBED,
        "fullDescription": DESCRIBED,
        "help": closed({"text": TEXT}, {"markdown": TEXT}),
        "properties": closed(
            {"tags": listed(TEXT, maxItems=10)},
            {
                "precision": {"enum": ["very-high", "high", "medium", "low"]},
                "problem.severity": {"enum": ["error", "warning", "recommendation"]},
            },
        ),
    },
    {"defaultConfiguration": closed({"level": LEVEL})},
)
SUPPRESSION = closed(
    {"kind": {"enum": ["inSource", "external"]}, "status": {"const": "accepted"}}, {"justification": TEXT}
)
RESULT = closed(
    {
        "ruleId": TEXT,
        "ruleIndex": COUNT,
        "level": LEVEL,
        "message": closed({"text": {**TEXT, "maxLength": 1024}}),
        "locations": listed(LOCATION, minItems=1, maxItems=1),
        "partialFingerprints": {
            "type": "object",
            "additionalProperties": TEXT,
            "required": ["primaryLocationLineHash"],
        },
        "properties": BAG,
    },
    {
        "fixes": listed(closed({"description": SAID, "artifactChanges": listed(CHANGE, minItems=1)})),
        "relatedLocations": listed(LOCATION),
        "suppressions": listed(
            closed(
                {"kind": {"enum": ["inSource", "external"]}, "status": {"const": "accepted"}}, {"justification": TEXT}
            )
        ),
        "baselineState": {"enum": ["new", "unchanged", "updated", "absent"]},
    },
)
NOTICE = closed(
    {"level": LEVEL, "message": SAID},
    {
        "locations": listed(LOCATION),
        "exception": closed({"kind": TEXT, "message": TEXT}),
        "associatedRule": closed({"id": TEXT, "index": COUNT}),
    },
)
INVOCATION = closed(
    {"executionSuccessful": {"type": "boolean"}},
    {"exitCode": {"type": "integer"}, "exitCodeDescription": TEXT, "toolExecutionNotifications": listed(NOTICE)},
)
DRIVER = closed({"name": TEXT, "version": TEXT, "semanticVersion": TEXT, "rules": listed(RULE)})
RUN = closed(
    {
        "tool": closed({"driver": DRIVER}),
        "automationDetails": closed({"id": {"type": "string", "pattern": "/$"}}),
        "invocations": listed(INVOCATION, minItems=1, maxItems=1),
        "originalUriBaseIds": closed({"SRCROOT": closed({"description": SAID})}),
        "columnKind": {"const": "unicodeCodePoints"},
        "results": listed(RESULT, maxItems=5000),
        "properties": BAG,
    }
)
LOG = closed({"$schema": TEXT, "version": {"const": "2.1.0"}, "runs": listed(RUN, minItems=1, maxItems=1)})


def test_what_is_written_has_the_form(audit: Audit) -> None:
    jsonschema.Draft202012Validator(LOG).validate(json.loads(sarif.render(audit)))


def test_published_schema(audit: Audit) -> None:
    """Where a copy of it is at hand."""
    if not os.environ.get("SARIF_SCHEMA"):
        pytest.skip("SARIF_SCHEMA names no copy of the published schema")
    schema = json.loads(Path(os.environ["SARIF_SCHEMA"]).read_text("utf-8"))
    jsonschema.validators.validator_for(schema)(schema).validate(json.loads(sarif.render(audit)))
