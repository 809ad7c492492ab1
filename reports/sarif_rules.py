"""The rules of a SARIF log: all that were judged, so that an alert is closed when its rule passes."""

from __future__ import annotations

import re
from typing import Any

from auditor.declare import Rule, Severity
from auditor.pages import page
from auditor.registry import rules as installed
from auditor.result import Audit, ReportedFinding, Verdict

from . import clean, inert, story

_LONGEST_DESCRIPTION = 1_000
_LONGEST_NAME = 255
_LONGEST_HELP = 20_000
_PROBLEM = {"error": "error", "warning": "warning", "note": "recommendation"}
_HEADING = re.compile(r"^#+\s+", re.MULTILINE)

Object = dict[str, Any]


class Rules:
    """Descriptors by code. What a rule says of itself does not depend on what it found: hosts compare that."""

    def __init__(self, audit: Audit) -> None:
        said: dict[str, ReportedFinding | Verdict] = {}
        waived = (each.finding for each in audit.suppressed)
        every: list[ReportedFinding | Verdict] = [*audit.findings, *waived, *audit.verdicts]
        for each in every:
            said.setdefault(each.code, each)
        known = {rule.code: rule for rule in installed()}
        self._ids: dict[str, str] = {}
        self._index: dict[str, int] = {}
        self.descriptors: list[Object] = []
        for code in sorted(said):
            self._ids[code] = clean.name(code, 60) or "unnamed"
            self._index[code] = len(self.descriptors)
            rule = known.get(code)
            own = rule is not None and rule.name == said[code].rule
            self.descriptors.append(_of_rule(rule) if rule and own else _of_words(self._ids[code], said[code]))

    def id(self, said: ReportedFinding | Verdict) -> str:
        return self._ids[said.code]

    def index(self, said: ReportedFinding | Verdict) -> int:
        return self._index[said.code]


def _of_rule(rule: Rule) -> Object:
    """An installed rule: its whole page is the help."""
    text = page(rule)
    return _descriptor(
        rule.code, rule.name, rule.summary, rule.section("Why is it bad?"), text, rule.family, rule.severity,
        {"markdown": text[:_LONGEST_HELP]},
    )  # fmt: skip


def _of_words(code: str, said: ReportedFinding | Verdict) -> Object:
    """A rule that is not installed here: what the audit kept of it."""
    if isinstance(said, Verdict):
        return _descriptor(code, said.rule, said.title or said.rule, "", said.title or said.rule, said.family, None, {})
    parts = [said.why, said.fix.text, said.doubt]
    markdown = "\n\n".join(inert.prose(part) for part in parts if part)
    text = "\n\n".join(part for part in parts if part)
    extra = {"markdown": markdown[:_LONGEST_HELP]} if markdown else {}
    return _descriptor(
        code, said.rule, said.title or said.rule, said.why, text or said.rule, said.family, said.severity, extra
    )


def _descriptor(
    code: str, name: str, summary: str, why: str, text: str, family: str, severity: Severity | None, extra: Object
) -> Object:
    short = clean.line(summary, _LONGEST_DESCRIPTION) or code
    level = {"defaultConfiguration": {"level": severity.value}} if severity else {}
    properties: Object = {"tags": [tag for tag in ("training", clean.name(family, 60)) if tag]}
    if severity:
        # Only what an identity or an experiment confirms may be an error.
        precision = "high" if severity is Severity.ERROR else "medium"
        properties |= {"precision": precision, "problem.severity": _PROBLEM[severity]}
    return {
        "id": code,
        "name": clean.name(name, _LONGEST_NAME) or code,
        "shortDescription": {"text": short},
        "fullDescription": {"text": clean.line(_plain(f"{short} {why}"), _LONGEST_DESCRIPTION)},
        "help": {"text": _plain(text) or short, **extra},
        **level,
        "properties": properties,
    }


def _plain(markdown: str) -> str:
    """Markdown without its marks, paragraph by paragraph."""
    return story.plain(_HEADING.sub("", markdown), _LONGEST_HELP)
