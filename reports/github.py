"""GitHub's workflow commands: findings as annotations of the changed lines.

`::error file=train.py,line=3,title=...::message`; in data `%`, CR and LF are escaped, in properties `:` and
`,` as well. A step shows ten annotations of each level, and the rest is lost without a word: the most severe
come first, and the last one says how many more there are.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditor.evidence import Status
from auditor.result import Audit, ReportedFinding
from auditor.rooted import Rooted

from . import clean, story, words
from .portable import with_short_texts

FORMAT = "github"
SUFFIXES: tuple[str, ...] = ()

_LONGEST_FIX = 600
MOST = 10  # annotations of each level in one step
_LEVELS = {"error": "error", "warning": "warning", "note": "notice"}


def render(audit: Audit) -> str:
    """A line for each annotation; '' when there is nothing to say."""
    rooted, (audit, _) = Rooted(audit), with_short_texts(audit)
    lines = []
    for severity, level in _LEVELS.items():
        found = [finding for finding in audit.findings if finding.severity == severity]
        told = [_annotation(level, finding, rooted) for finding in found]
        if severity == "error":
            told = [*_ending(audit, rooted), *told]
        if len(told) > MOST:
            more = words.plural(len(told) - MOST + 1, f"more {severity}")
            told = [*told[: MOST - 1], _command(level, f"{more}: see the whole report", title="and more")]
        lines += told
    return "".join(line + "\n" for line in lines)


def _ending(audit: Audit, rooted: Rooted) -> Iterator[str]:
    """A run that could not be judged to its end."""
    run = audit.run
    if run.source_only or run.status is Status.COMPLETED:
        return
    text = story.conclusion(audit).sentence
    place = run.crash.location if run.crash else None
    if run.crash:
        text += f"\n{clean.name(run.crash.name)}: {clean.line(run.crash.message)}"
    path = rooted.path(place.file) if place else ""
    yield _command("error", text, title="audit", file=path, line=place.line if place else 0)


def _annotation(level: str, finding: ReportedFinding, rooted: Rooted) -> str:
    path = rooted.path(finding.location.file) if finding.location else ""
    text = f"{clean.line(finding.message)}\nFix: {story.plain(finding.fix.text, _LONGEST_FIX)}"
    title = f"{clean.name(finding.code, 16)} {clean.name(finding.rule)}"
    return _command(level, text, title=title, file=path, line=finding.location.line if finding.location else 0)


def _command(level: str, text: str, *, title: str, file: str = "", line: int = 0) -> str:
    """Without a file, it is an annotation of the whole job."""
    properties = {"file": clean.line(file, 1_000), "line": str(line)} if file else {}
    named = ",".join(f"{name}={_property(value)}" for name, value in {**properties, "title": title}.items())
    return f"::{level} {named}::{data(text)}"


def data(text: str) -> str:
    """Escaped as the runner unescapes it (actions/toolkit, core/src/command.ts)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return data(text).replace(":", "%3A").replace(",", "%2C")
