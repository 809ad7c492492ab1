"""Evidence and rules in, Audit out. Pure but for reading the user's source lines and clock-free: the same evidence
gives the same audit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from auditor.config import Settings
from auditor.declare import (
    Confidence,
    Finding,
    Inconclusive,
    Measured,
    Missing,
    NotApplicable,
    Rule,
    arguments,
)
from auditor.diagnosis import diagnose
from auditor.evidence import Evidence, Part
from auditor.repair import Repairs
from auditor.result import (
    Audit,
    ChangedLimit,
    Fix,
    Judging,
    Outcome,
    Proof,
    ReportedFinding,
    Summary,
    Suppressed,
    Verdict,
    Waiver,
)
from auditor.static.source import SourceFiles
from auditor.static.suppressions import Comment, comments
from auditor.together import outcome


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
    except Missing as why:
        return answer(*_missing(why.part, evidence), measured)
    except Exception as bug:
        return answer(Outcome.ERROR, f"the rule itself failed: {type(bug).__name__}: {bug}", measured)
    if findings:
        return answer(Outcome.FAIL, findings[0].message, measured, *findings)
    return answer(Outcome.PASS, "", measured)


def _missing(part: str, evidence: Evidence) -> tuple[Outcome, str]:
    absence = evidence.absent.get(part)
    if absence is not None:
        return Outcome(absence.outcome), absence.reason
    if evidence.run.source_only:
        return Outcome.NOT_APPLICABLE, "nothing was run: only the source was read"
    return Outcome.INCONCLUSIVE, f"the probe ended before it gathered {part.replace('_', ' ')}"


def judge(evidence: Evidence, rules: Iterable[Rule], settings: Settings | None = None, *, diffs: bool = True) -> Audit:
    """Judge the evidence by the rules that the settings select. `diffs`: also write the fixes as diffs."""
    settings = settings or Settings()
    answers = [ask(rule, evidence, settings) for rule in settings.selected(rules)]
    sources = SourceFiles()
    repairs = Repairs(evidence, diffs=diffs)
    reported = [_report(answer.rule, finding, sources, repairs) for answer in answers for finding in answer.findings]
    explains = {answer.rule.name: answer.rule.explains for answer in answers}
    kept, waived, notes = _suppress(diagnose(reported, explains, evidence), settings, sources, answers)
    verdicts = tuple(answer.verdict for answer in answers)
    return Audit(
        run=evidence.run,
        findings=tuple(kept),
        verdicts=verdicts,
        suppressed=tuple(waived),
        together=outcome(kept, evidence),
        judged_by=_judged_by(settings, [answer.rule for answer in answers]),
        notes=tuple(notes),
        summary=_summary(kept, verdicts, len(waived)),
        evidence=evidence,
    )


def _judged_by(settings: Settings, rules: Sequence[Rule]) -> Judging:
    """The settings in force, with the limits that differ from the rules' own."""
    changed = []
    for rule in rules:
        ours, own = settings.limits_of(rule), rule.limits()
        names = (name for name in type(ours).model_fields if getattr(ours, name) != getattr(own, name))
        changed += [
            ChangedLimit(
                rule=rule.name,
                code=rule.code,
                name=name,
                value=str(getattr(ours, name)),
                default=str(getattr(own, name)),
            )
            for name in names
        ]
    waivers = tuple(Waiver(rule=each.rule, reason=each.reason) for each in settings.ignore)
    return Judging(select=settings.select, ignore=waivers, fail_on=settings.fail_on, limits=tuple(changed))


def _proof(rule: Rule, finding: Finding, fix: Fix, evidence: Evidence) -> Proof:
    """What confirms the finding; '' for one that is only suspected."""
    if finding.confidence is Confidence.CONFIRMED:
        parts = (getattr(evidence, need.evidence) for need in rule.needs)
        return "experiment" if any(isinstance(part, Part) and part.by_experiment() for part in parts) else "identity"
    return "trial" if fix.trial is not None and fix.trial.helped and fix.trial.looks > 1 else ""


def _report(rule: Rule, finding: Finding, sources: SourceFiles, repairs: Repairs) -> ReportedFinding:
    fix = repairs.of(rule, finding)
    proof = _proof(rule, finding, fix, repairs.evidence)
    line = sources.line(finding.location) if finding.location else ""
    key = "|".join((rule.name, finding.where, " ".join(line.split())))
    return ReportedFinding(
        id=f"{rule.code}-{hashlib.sha256(key.encode('utf-8', 'replace')).hexdigest()[:8]}",
        rule=rule.name,
        code=rule.code,
        family=rule.family,
        severity=finding.severity or rule.severity,
        confidence=Confidence.CONFIRMED if proof else Confidence.SUSPECTED,
        proof=proof,
        message=_sentence(finding),
        where=finding.where,
        location=finding.location,
        measured=finding.measured,
        limit=finding.limit,
        since=finding.since,
        fix=fix,
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
