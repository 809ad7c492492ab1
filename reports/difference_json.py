"""A comparison of two audits as JSON."""

from __future__ import annotations

from auditor.compare import Difference

COMPARES = "json"
SUFFIXES = (".json",)


def render(found: Difference) -> str:
    """Everything: both sides, and each finding in full."""
    return found.model_dump_json(indent=2) + "\n"
