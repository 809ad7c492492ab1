"""Evidence and rules in, Audit out. Pure but for reading the user's source lines and clock-free: the same evidence
gives the same audit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from auditor.config import Settings
from auditor.declare import (
    Finding,
    Inconclusive,
    Measured,
    NotApplicable,
    Rule,
    arguments,
)
from auditor.edits import Suggestions
from auditor.evidence import Evidence
from auditor.result import (
    Audit,
    Fix,
    Outcome,
    ReportedFinding,
    Summary,
    Suppressed,
    Verdict,
)
from auditor.static.source import SourceFiles
from auditor.static.suppressions import Comment, comments


@dataclass(frozen=True)
class Answer:
    """One rule's verdict with its findings."""

    rule: Rule
    verdict: Verdict
    findings: tuple[Finding, ...] = ()


def ask(rule: Rule, evidence: Evidence, settings: Settings | None = None) -> Answer:
    """Run one rule on the evidence. A rule that raises anything unforeseen gets the outcome `error`."""
    limits = (settings or Settings()).limits_of(rule)

    def answer(outcome: Outcome, reason: str = "", measured: Measured | None = None, *findings: Finding) -> Answer:
        worst = findings[0] if findings else None
        verdict = Verdict(
            rule=rule.name,
            code=rule.code,
            family=rule.family,
            title=rule.summary,
            outcome=outcome,
            reason=reason or (measured.text if measured else ""),
            measured=worst.measured if worst else (measured.value if measured else None),
            limit=worst.limit if worst else (measured.limit if measured else None),
        )
        return Answer(rule, verdict, findings)

    for need in rule.needs:
        if need.required and getattr(evidence, need.evidence) is None:
            return answer(*_missing(need.evidence, evidence))
    findings: list[Finding] = []
    measured: Measured | None = None
    try:
        for item in rule.function(**arguments(rule, evidence, limits)):
            if isinstance(item, Finding):
                findings.append(item)
            else:
                measured = item
    except NotApplicable as why:
        return answer(Outcome.NOT_APPLICABLE, str(why), measured)
    except Inconclusive as why:
        return answer(Outcome.INCONCLUSIVE, str(why), measured)
    except Exception as bug:
        return answer(Outcome.ERROR, f"the rule itself failed: {type(bug).__name__}: {bug}", measured)
    if findings:
        return answer(Outcome.FAIL, findings[0].message, measured, *findings)
    return answer(Outcome.PASS, "", measured)


def _missing(part: str, evidence: Evidence) -> tuple[Outcome, str]:
    absence = evidence.absent.get(part)
    if absence is not None:
        return Outcome(absence.outcome), absence.reason
    return Outcome.INCONCLUSIVE, f"the probe ended before it gathered {part.replace('_', ' ')}"


def judge(evidence: Evidence, rules: Iterable[Rule], settings: Settings | None = None) -> Audit:
    """Judge the evidence by the rules that the settings select."""
    settings = settings or Settings()
    answers = [ask(rule, evidence, settings) for rule in settings.selected(rules)]
    sources = SourceFiles()
    edits = Suggestions(evidence.run)
    reported = [_report(answer.rule, finding, sources, edits) for answer in answers for finding in answer.findings]
    kept, waived, notes = _suppress(_diagnose(reported, answers), settings, sources, answers)
    verdicts = tuple(answer.verdict for answer in answers)
    return Audit(
        run=evidence.run,
        findings=tuple(kept),
        verdicts=verdicts,
        suppressed=tuple(waived),
        notes=tuple(notes),
        summary=_summary(kept, verdicts, len(waived)),
        evidence=evidence,
    )


def _report(rule: Rule, finding: Finding, sources: SourceFiles, edits: Suggestions) -> ReportedFinding:
    line = sources.line(finding.location) if finding.location else ""
    key = "|".join((rule.name, finding.where, " ".join(line.split())))
    diff, by_hand = edits.first(finding.remedies)
    return ReportedFinding(
        id=f"{rule.code}-{hashlib.sha256(key.encode('utf-8', 'replace')).hexdigest()[:8]}",
        rule=rule.name,
        code=rule.code,
        family=rule.family,
        severity=finding.severity or rule.severity,
        confidence=finding.confidence,
        message=_sentence(finding),
        where=finding.where,
        location=finding.location,
        measured=finding.measured,
        limit=finding.limit,
        fix=Fix(text=finding.fix or rule.fix, diff=diff, by_hand=by_hand),
        title=rule.summary,
        why=rule.section("Why is it bad?"),
        doubt=rule.section("When it may be wrong"),
        detail=finding.detail,
        references=rule.references,
        source=sources.frame(finding.location) if finding.location else (),
    )


def _sentence(finding: Finding) -> str:
    """The message with a capital letter, unless it begins with a name."""
    first = finding.message.partition(" ")[0]
    is_name = not first.isalpha() or finding.where.startswith(first)
    return finding.message if is_name else finding.message[:1].upper() + finding.message[1:]


def _diagnose(findings: Sequence[ReportedFinding], answers: Sequence[Answer]) -> list[ReportedFinding]:
    """Order: causes by severity, confidence and code, each followed by what it explains."""
    explains = {answer.rule.name: answer.rule.explains for answer in answers}

    def strength(finding: ReportedFinding) -> tuple[int, bool, str]:
        return finding.severity.rank, finding.confidence == "suspected", finding.code

    ordered = sorted(findings, key=strength)
    causes: dict[str, str] = {}
    failing = {finding.rule for finding in ordered}
    for finding in ordered:
        reach = {name for name in explains.get(finding.rule, ()) if name in failing}
        for name in reach:
            if finding.rule not in _chain(name, causes) and _root(finding.rule, causes) != name:
                causes.setdefault(name, finding.rule)
    result: list[ReportedFinding] = []

    def place(rule: str | None) -> None:
        for finding in ordered:
            if causes.get(finding.rule) == rule and finding not in result:
                result.append(finding.model_copy(update={"caused_by": rule}))
                later = [other for other in ordered if other.rule == finding.rule]
                if later[-1] is finding:
                    place(finding.rule)

    place(None)
    return result


def _root(rule: str, causes: dict[str, str]) -> str:
    while rule in causes:
        rule = causes[rule]
    return rule


def _chain(rule: str, causes: dict[str, str]) -> set[str]:
    """`rule` and everything it already explains."""
    return {rule} | {name for name in causes if rule in _ancestors(name, causes)}


def _ancestors(rule: str, causes: dict[str, str]) -> set[str]:
    found: set[str] = set()
    while rule in causes:
        rule = causes[rule]
        found.add(rule)
    return found


def _suppress(
    findings: Sequence[ReportedFinding], settings: Settings, sources: SourceFiles, answers: Sequence[Answer]
) -> tuple[list[ReportedFinding], list[Suppressed], list[str]]:
    """Split into kept and waived; notes name the comments that waived nothing."""
    kept: list[ReportedFinding] = []
    waived: list[Suppressed] = []
    used: set[Comment] = set()
    known = {name for answer in answers for name in (answer.rule.code, answer.rule.name)}
    for finding in findings:
        reason = settings.ignore_reason(finding)
        comment = next((c for c in comments(sources, finding.location) if c.waives(finding)), None)
        if reason is not None:
            waived.append(Suppressed(finding=finding, by="configuration", reason=reason))
        elif comment is not None:
            used.add(comment)
            waived.append(Suppressed(finding=finding, by="comment", reason=comment.reason))
        else:
            kept.append(finding)
    notes = [
        f"{comment.file}:{comment.line}: the comment `audit: ignore[{', '.join(comment.codes)}]` waives nothing"
        for comment in sources.comments()
        if comment not in used and any(code in known for code in comment.codes)
    ]
    return kept, waived, notes


def _summary(findings: Sequence[ReportedFinding], verdicts: Sequence[Verdict], suppressed: int) -> Summary:
    severities = [finding.severity.value for finding in findings]
    outcomes = [verdict.outcome for verdict in verdicts]
    return Summary(
        errors=severities.count("error"),
        warnings=severities.count("warning"),
        notes=severities.count("note"),
        passed=outcomes.count(Outcome.PASS),
        not_applicable=outcomes.count(Outcome.NOT_APPLICABLE),
        inconclusive=outcomes.count(Outcome.INCONCLUSIVE),
        rule_errors=outcomes.count(Outcome.ERROR),
        suppressed=suppressed,
    )
