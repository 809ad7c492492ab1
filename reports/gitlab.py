"""GitLab's Code Quality report (docs.gitlab.com): a JSON array of findings, each with a fingerprint and a place.

It has no suffix of its own, since `.json` is the audit's: write it with `-o gitlab:gl-code-quality-report.json`.
"""

from __future__ import annotations

import json
from typing import Any

from auditor.identity import fingerprints
from auditor.result import Audit, ReportedFinding
from auditor.rooted import Rooted

from . import clean
from .portable import with_short_texts

FORMAT = "gitlab"
SUFFIXES: tuple[str, ...] = ()

_SEVERITIES = {"error": "major", "warning": "minor", "note": "info"}
_UNKNOWN, _UNNAMED = "unknown.py", "finding"


def render(audit: Audit) -> str:
    """Suppressed findings are left out. Every entry needs a path and a name: without a path, it is the script's first
    line."""
    rooted, (audit, _) = Rooted(audit), with_short_texts(audit)
    marked = zip(audit.findings, fingerprints(audit.findings, rooted), strict=True)
    return json.dumps([_entry(*each, rooted) for each in marked], indent=2, ensure_ascii=False) + "\n"


def _entry(finding: ReportedFinding, fingerprint: str, rooted: Rooted) -> dict[str, Any]:
    path = clean.line(rooted.path(finding.location.file), 1_000) if finding.location else ""
    line = finding.location.line if finding.location and path else 1
    code = clean.name(finding.code, 60)
    return {
        "description": f"{code}: {clean.line(finding.message)}",  # the name of the check is not shown
        "check_name": clean.name(finding.rule) or code or _UNNAMED,
        "fingerprint": fingerprint.replace(":", ""),
        "severity": _SEVERITIES[finding.severity],
        "location": {"path": path or clean.line(rooted.script, 1_000) or _UNKNOWN, "lines": {"begin": line}},
    }
