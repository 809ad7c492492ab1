"""Places and replacements in a SARIF log: always relative to the root of the sources, never a path of one machine."""

from __future__ import annotations

import posixpath
from typing import Any
from urllib.parse import quote

from auditor.edits.diffs import Hunk, Mismatch, Row, parse
from auditor.result import Audit, ReportedFinding
from auditor.rooted import Rooted

from . import clean, story

BASE = "SRCROOT"
_UNKNOWN = "unknown.py"
_LONGEST_MESSAGE = 1_000

Object = dict[str, Any]


def message(text: str) -> str:
    """A plain text message. `[text](id)` would be a link in it, section 3.11.6."""
    return clean.line(text, _LONGEST_MESSAGE).replace("](", "] (") or "no message"


def at(path: str, region: Object) -> Object:
    """A physicalLocation. The path becomes a URI reference, RFC 3986."""
    uri = quote(path.encode("utf-8", "replace"), safe="/!$&'()*+,;=@~")
    return {"artifactLocation": {"uri": uri, "uriBaseId": BASE}, "region": region}


def physical(finding: ReportedFinding, rooted: Rooted) -> Object:
    """Where the finding is; {} when it names no place, or one outside of the sources."""
    path = rooted.path(finding.location.file) if finding.location else ""
    return at(path, _region(finding)) if path else {}


def of_finding(audit: Audit, finding: ReportedFinding, rooted: Rooted) -> Object:
    """Its location. A finding without a place in the sources is shown at the script's first line: hosts show none
    that has no place."""
    place = physical(finding, rooted)
    if not place:
        source = audit.evidence.source
        files = (rooted.path(file.path) for file in source.files) if source else ()
        place = at(rooted.script or next(filter(None, files), _UNKNOWN), {"startLine": 1})
    logical = []
    if finding.location and finding.location.function not in ("", "<module>"):
        logical.append({"name": clean.name(finding.location.function), "kind": "function"})
    if finding.where:
        logical.append({"fullyQualifiedName": clean.name(finding.where)})
    return {"physicalLocation": place, **({"logicalLocations": logical} if logical else {})}


def _region(finding: ReportedFinding) -> Object:
    """The line without its indentation, section 3.30: columns count from 1, and the end is the one after the last."""
    assert finding.location is not None
    line = finding.location.line
    text = next((row.text for row in finding.source if row.number == line), "")
    if not text.strip():
        return {"startLine": line}
    start, end = len(text) - len(text.lstrip()) + 1, len(text.rstrip()) + 1
    snippet = {"text": clean.code(text.strip())}
    return {"startLine": line, "startColumn": start, "endLine": line, "endColumn": end, "snippet": snippet}


def fix(finding: ReportedFinding, rooted: Rooted) -> Object:
    """The diff as replacements, section 3.55; {} when there is none, or it cannot be expressed exactly."""
    if not finding.fix.diff:
        return {}
    try:
        files = parse(finding.fix.diff)
    except Mismatch:
        return {}
    changes = []
    for file in files:
        path = rooted.path(_whole(file.name, finding))
        replacements = [each for hunk in file.hunks for each in _of_hunk(hunk)]
        if not path or not replacements:
            return {}
        artifact = at(path, {})["artifactLocation"]
        changes.append({"artifactLocation": artifact, "replacements": replacements})
    trial = finding.fix.trial  # what the diff does, where that was tried; it may be another remedy than the text's
    text = trial.what if trial is not None and trial.what else story.plain(finding.fix.text, 1_500)
    return {"description": {"text": message(text)}, "artifactChanges": changes} if changes else {}


def _whole(name: str, finding: ReportedFinding) -> str:
    """A diff names files below the project. Where that is, the finding's own file tells if the diff is of it; else
    the name is taken to be below the root."""
    file = finding.location.file.replace("\\", "/") if finding.location else ""
    if file.endswith("/" + name):
        return file
    return "" if posixpath.isabs(name) else name


def _of_hunk(hunk: Hunk) -> list[Object]:
    """Replacements of whole lines. A line break is written as the diff has it, which is a line feed."""
    found, line = [], hunk.line
    rows = list(hunk.rows)
    while rows:
        count = next((n for n, row in enumerate(rows) if row.sign == " "), len(rows))
        gone = [row.text for row in rows[:count] if row.sign == "-"]
        new = [row.text for row in rows[:count] if row.sign == "+"]
        if count:
            found.append(_replacement(line, gone, new, rows[count:], hunk))
        line += len(gone) + (count < len(rows))
        rows = rows[count + 1 :]
    return found


def _replacement(line: int, gone: list[str], new: list[str], after: list[Row], hunk: Hunk) -> Object:
    """Lines `line`... that go, and those that come in their place. `after` is empty at the end of the file."""
    if gone and new:  # within the lines, so that the last break stays
        region = _span(line, 1, line + len(gone) - 1, len(gone[-1]) + 1)
        return {"deletedRegion": region, "insertedContent": {"text": "\n".join(new)}}
    if after or not line > 1:
        text = "".join(row + "\n" for row in new)
        region = _span(line, 1, line + len(gone), 1)
    else:  # at the end of the file, whose last line may have no break: begin behind the line before
        before = [row.text for row in hunk.rows if row.sign != "+"]
        last = before[len(before) - len(gone) - 1] if len(before) > len(gone) else ""
        text = "".join("\n" + row for row in new)
        region = _span(line - 1, len(last) + 1, line - 1 + len(gone), len(gone[-1] if gone else last) + 1)
    return {"deletedRegion": region} | ({"insertedContent": {"text": text}} if text else {})


def _span(line: int, column: int, end_line: int, end_column: int) -> Object:
    return {"startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column}
