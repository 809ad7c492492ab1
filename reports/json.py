"""The audit as JSON: the contract with other programs."""

from __future__ import annotations

from auditor.result import Audit

FORMAT = "json"
SUFFIXES = (".json",)


def render(audit: Audit) -> str:
    """Everything, evidence included; `audit report` renders it again in any format."""
    return audit.to_json()
