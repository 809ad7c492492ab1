"""What makes two findings of different audits the same one."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

from auditor.result import ReportedFinding
from auditor.rooted import Rooted


def key(finding: ReportedFinding, rooted: Rooted) -> tuple[str, str]:
    """Rule, place and source line, which the finding's id stands for, and the file.

    No line number and no measured value is part of it: both change while the fault stays.
    """
    return finding.id, rooted.path(finding.location.file) if finding.location else ""


def fingerprints(findings: Iterable[ReportedFinding], rooted: Rooted) -> list[str]:
    """One for each finding, unique among them: '3f2a…:1', and ':2' for the next one of the same key."""
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for finding in findings:
        own = key(finding, rooted)
        seen[own] += 1
        digest = hashlib.sha256("|".join(own).encode("utf-8", "replace")).hexdigest()
        found.append(f"{digest[:16]}:{seen[own]}")
    return found
