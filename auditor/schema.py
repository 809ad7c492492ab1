"""The JSON Schema of a saved audit: draft 2020-12, as pydantic writes it, with a name and the version of the format."""

from __future__ import annotations

import json
from typing import Any

from auditor.evidence import SCHEMA_VERSION
from auditor.result import Audit

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def audit_schema() -> dict[str, Any]:
    """Of what `--format json` writes. Its `$id` is a name, not an address."""
    major = SCHEMA_VERSION.partition(".")[0]
    written = Audit.model_json_schema(mode="serialization")
    written["properties"]["schema_version"] |= {"pattern": rf"^{major}\.\d+$"}
    _allow_nonfinite(written)
    return {
        "$schema": DIALECT,
        "$id": f"urn:training-auditor:schema:audit:{SCHEMA_VERSION}",
        "title": f"Audit, schema version {SCHEMA_VERSION}",
        **{name: value for name, value in written.items() if name != "title"},
    }


def _allow_nonfinite(part: Any) -> None:
    """JSON has no NaN and no infinities; an audit writes them as strings, wherever a number may stand."""
    if isinstance(part, dict):
        if part.get("type") == "number":
            part |= {"type": ["number", "string"], "pattern": "^(NaN|-?Infinity)$"}
        for each in part.values():
            _allow_nonfinite(each)
    elif isinstance(part, list):
        for each in part:
            _allow_nonfinite(each)


def schema_text() -> str:
    return json.dumps(audit_schema(), indent=2) + "\n"
