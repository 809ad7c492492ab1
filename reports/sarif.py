"""SARIF 2.1.0 (OASIS, docs.oasis-open.org/sarif/sarif/v2.1.0), as GitHub code scanning and editors read it.

GitHub's own demands hold: paths are relative to the root of the repository, every result has a place and a
fingerprint, descriptions have at most 1,024 characters, a rule has at most 10 tags, and a run at most 5,000 results. A
security severity is not given: these are no security findings.
"""

from __future__ import annotations

import json
from typing import Any

from auditor.compare import Difference
from auditor.evidence import Crash, Status
from auditor.identity import fingerprints
from auditor.result import Audit, Outcome, ReportedFinding, Suppressed
from auditor.rooted import Rooted

from . import clean, sarif_places, sarif_rules, story
from .portable import with_short_texts

FORMAT = "sarif"
SUFFIXES = (".sarif",)

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {"error": "error", "warning": "warning", "note": "note"}
_MOST_RESULTS = 5_000
_ENDED_WELL = (Status.COMPLETED, Status.TIMEOUT)  # a timeout is judged by what was seen until then

Object = dict[str, Any]


def render(audit: Audit, *, difference: Difference | None = None) -> str:
    """One run. With a difference, each result says whether it is new."""
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [_run(audit, difference)]}
    return json.dumps(log, indent=2, ensure_ascii=False) + "\n"


def _run(audit: Audit, difference: Difference | None) -> Object:
    rooted, (audit, difference) = Rooted(audit), with_short_texts(audit, difference)
    rules = sarif_rules.Rules(audit)
    version = clean.name(audit.tool.version, 40)
    driver = {"name": clean.name(audit.tool.name, 60), "version": version, "semanticVersion": version}
    return {
        "tool": {"driver": {**driver, "rules": rules.descriptors}},
        "automationDetails": {"id": f"{clean.name(audit.tool.name, 60)}/{_category(audit, rooted)}/"},
        "invocations": [_invocation(audit, rooted, rules)],
        "originalUriBaseIds": {sarif_places.BASE: {"description": {"text": "The root of the repository."}}},
        "columnKind": "unicodeCodePoints",
        "results": _results(audit, rooted, rules, difference),
        "properties": {
            "verdict": story.conclusion(audit).sentence,
            "status": audit.run.status.value,
            "steps": audit.run.steps,
            **audit.summary.model_dump(),
        },
    }


def _category(audit: Audit, rooted: Rooted) -> str:
    """Keeps the audits of several scripts apart."""
    if audit.run.module:
        return clean.name(audit.run.target, 200)
    return clean.name(rooted.script, 200) or ("source" if audit.run.source_only else "script")


def _results(audit: Audit, rooted: Rooted, rules: sarif_rules.Rules, difference: Difference | None) -> list[Object]:
    found: list[tuple[ReportedFinding, Suppressed | None]] = [(finding, None) for finding in audit.findings]
    found += [(waiver.finding, waiver) for waiver in audit.suppressed]
    marks = fingerprints([finding for finding, _ in found], rooted)
    causes: dict[str, ReportedFinding] = {}
    for finding in audit.findings:
        causes.setdefault(finding.rule, finding)
    results = []
    for (finding, waiver), mark in zip(found[:_MOST_RESULTS], marks, strict=False):
        result = _result(audit, finding, rooted, rules, mark)
        if finding.caused_by in causes:
            result |= _related(causes[finding.caused_by], rooted)
        if waiver is not None:
            result["suppressions"] = [_suppression(waiver)]
        elif difference is not None:
            result["baselineState"] = _state(difference, finding)
        results.append(result)
    return results


def _suppression(waiver: Suppressed) -> Object:
    reason = clean.line(waiver.reason)
    kind = "inSource" if waiver.by == "comment" else "external"
    return {"kind": kind, "status": "accepted", **({"justification": reason} if reason else {})}


def _result(
    audit: Audit, finding: ReportedFinding, rooted: Rooted, rules: sarif_rules.Rules, fingerprint: str
) -> Object:
    properties = {
        "family": clean.name(finding.family),
        "confidence": story.sure(finding),
        "where": clean.name(finding.where),
        "measured": _number(finding.measured),
        "limit": _number(finding.limit),
        "causedBy": clean.name(finding.caused_by or ""),
        "detail": [clean.line(each, 300) for each in finding.detail[:8]],
        "fix": clean.line(story.plain(finding.fix.text, 1_500)),
    }
    fix = sarif_places.fix(finding, rooted)
    return {
        "ruleId": rules.id(finding),
        "ruleIndex": rules.index(finding),
        "level": LEVELS[finding.severity],
        "message": {"text": sarif_places.message(finding.message)},
        "locations": [sarif_places.of_finding(audit, finding, rooted)],
        "partialFingerprints": {"primaryLocationLineHash": fingerprint, "auditFinding/v1": clean.name(finding.id)},
        **({"fixes": [fix]} if fix else {}),
        "properties": {name: value for name, value in properties.items() if value not in ("", None, [])},
    }


def _number(value: float | None) -> float | str | None:
    """JSON has no infinities."""
    return value if value is None or abs(value) < float("inf") else str(value)


def _related(cause: ReportedFinding, rooted: Rooted) -> Object:
    place = sarif_places.physical(cause, rooted)
    if not place:
        return {}
    text = f"follows from {clean.name(cause.code, 16)} {clean.name(cause.rule)}: {cause.message}"
    return {"relatedLocations": [{"id": 1, "physicalLocation": place, "message": {"text": sarif_places.message(text)}}]}


def _state(difference: Difference, finding: ReportedFinding) -> str:
    if difference.is_new(finding):
        return "new"
    return "updated" if difference.change_of(finding) else "unchanged"


def _invocation(audit: Audit, rooted: Rooted, rules: sarif_rules.Rules) -> Object:
    run = audit.run
    ended_well = run.source_only or (run.status in _ENDED_WELL and (run.steps > 0 or run.status is Status.COMPLETED))
    notes = []
    if run.status is not Status.COMPLETED:
        notes.append(_notification("warning" if ended_well else "error", story.conclusion(audit).sentence))
    if run.crash:
        notes.append(_crash(run.crash, rooted))
    for verdict in story.outcomes(audit, Outcome.ERROR)[:100]:
        broken = _notification("warning", f"{verdict.code} {verdict.rule}: {verdict.reason}")
        notes.append(broken | {"associatedRule": {"id": rules.id(verdict), "index": rules.index(verdict)}})
    found: Object = {"executionSuccessful": bool(ended_well)}
    if run.exit_code is not None:
        found |= {"exitCode": run.exit_code, "exitCodeDescription": "Exit code of the audited script."}
    return found | ({"toolExecutionNotifications": notes} if notes else {})


def _notification(level: str, text: str) -> Object:
    return {"level": level, "message": {"text": sarif_places.message(text)}}


def _crash(crash: Crash, rooted: Rooted) -> Object:
    kind, text = clean.name(crash.name), clean.line(crash.message)
    found = _notification("error", f"The script ended with {kind}: {text}")
    path = rooted.path(crash.location.file) if crash.location else ""
    if crash.location and path:
        place = sarif_places.at(path, {"startLine": crash.location.line})
        found["locations"] = [{"physicalLocation": place}]
    return found | {"exception": {"kind": kind or "unknown", "message": text or "no message"}}
