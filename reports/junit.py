"""JUnit XML: a suite for each family, a case for each rule. The form is that of the schema of Jenkins' xUnit plugin.

A rule's case fails when it found something at or above the threshold; less severe findings are its output. A rule that
did not decide is skipped, with the reason. How the script ended is a case of its own: what crashed must not look green.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from xml.etree import ElementTree as Xml

from auditor.declare import Severity
from auditor.evidence import Status
from auditor.result import Audit, Outcome, ReportedFinding, Suppressed, Verdict
from auditor.rooted import Rooted

from . import clean, story, tried, words
from .portable import with_short_texts

FORMAT = "junit"
SUFFIXES = (".xml",)

# What XML 1.0 cannot hold, not even as a character reference (section 2.2).
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MOST_FINDINGS = 200  # of one rule
_MOST_DETAILS = 20


def render(audit: Audit, *, fail_on: Severity | None = Severity.ERROR) -> str:
    """`fail_on`: the least severe finding that is a failure; None: none is."""
    rooted, (audit, _) = Rooted(audit), with_short_texts(audit)
    suites = Xml.Element("testsuites", name=_text(audit.tool.name, 60))
    if not audit.run.source_only:
        _run(suites, audit)
    families: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in _verdicts(audit):
        families[clean.name(verdict.family) or "rules"].append(verdict)
    findings: dict[str, list[ReportedFinding]] = defaultdict(list)
    for finding in audit.findings:
        findings[finding.code].append(finding)
    waived: dict[str, list[Suppressed]] = defaultdict(list)
    for each in audit.suppressed:
        waived[each.finding.code].append(each)
    for family in sorted(families):
        suite = Xml.SubElement(suites, "testsuite", name=_text(family))
        for verdict in families[family]:
            case = _case(suite, family, f"{verdict.code} {verdict.rule}")
            _judged(case, verdict, findings[verdict.code], waived[verdict.code], fail_on, rooted)
    for element in (*suites, suites):
        _count(element)
    Xml.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(suites, encoding="unicode") + "\n"


def _verdicts(audit: Audit) -> list[Verdict]:
    """Those of the audit, and one for each finding whose rule has none."""
    found = {verdict.code: verdict for verdict in audit.verdicts}
    lone = [finding for finding in audit.findings if finding.code not in found]
    for each in lone:
        made = Verdict(rule=each.rule, code=each.code, family=each.family, outcome=Outcome.FAIL)
        found.setdefault(each.code, made)
    return [*audit.verdicts, *(found[code] for code in dict.fromkeys(each.code for each in lone))]


def _count(element: Xml.Element) -> None:
    """The totals of a suite, or of all of them."""
    cases = list(element.iter("testcase"))
    element.set("tests", str(len(cases)))
    for kind, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        if element.tag == "testsuite" or kind != "skipped":
            element.set(name, str(sum(case.find(kind) is not None for case in cases)))
    element.set("time", f"{sum(float(case.get('time', 0)) for case in cases):.3f}")


def _run(suites: Xml.Element, audit: Audit) -> None:
    """How the script ended: the one case that takes time."""
    run = audit.run
    suite = Xml.SubElement(suites, "testsuite", name="run")
    properties = Xml.SubElement(suite, "properties")
    sentence = story.conclusion(audit).sentence
    facts = {
        "target": words.command(run),
        "steps": str(run.steps),
        "device": run.device,
        "torch": run.torch,
        "seed": "" if run.seed is None else str(run.seed),
        "verdict": sentence,
    }
    for name, value in facts.items():
        if value:
            Xml.SubElement(properties, "property", name=name, value=_text(value))
    case = _case(suite, "run", "script", run.seconds)
    judged = run.status in (Status.TIMEOUT, Status.INTERRUPTED) and run.steps > 0
    if run.status is not Status.COMPLETED and not judged:
        rows = clean.lines(run.crash.traceback) if run.crash else []
        _child(case, "error", sentence, run.status.value, "\n".join(rows))
    elif judged:
        _child(case, "skipped", sentence, run.status.value)


def _case(suite: Xml.Element, family: str, name: str, seconds: float = 0.0) -> Xml.Element:
    """Only the run has a time; that of a single rule is not measured."""
    time = f"{seconds:.3f}" if math.isfinite(seconds) and 0 <= seconds < 1e9 else "0.000"
    return Xml.SubElement(suite, "testcase", classname=_text(f"audit.{family}"), name=_text(name, 120), time=time)


def _judged(
    case: Xml.Element,
    verdict: Verdict,
    findings: list[ReportedFinding],
    waived: list[Suppressed],
    fail_on: Severity | None,
    rooted: Rooted,
) -> None:
    failing = [f for f in findings if fail_on is not None and f.severity.rank <= fail_on.rank]
    if failing:
        worst = min(failing, key=lambda finding: finding.severity.rank)
        text = "\n\n".join(_told(finding, rooted) for finding in failing[:_MOST_FINDINGS])
        _child(case, "failure", worst.message, worst.severity.value, text)
    elif verdict.outcome is Outcome.ERROR:
        _child(case, "error", verdict.reason, "rule")
    elif verdict.outcome in (Outcome.NOT_APPLICABLE, Outcome.INCONCLUSIVE):
        _child(case, "skipped", verdict.reason or verdict.outcome.value, verdict.outcome.value)
    elif waived and not findings:
        reasons = "; ".join(dict.fromkeys(filter(None, (clean.line(each.reason) for each in waived))))
        _child(case, "skipped", f"suppressed: {reasons or 'no reason given'}", "suppressed")
    rest = [f for f in findings if all(f is not each for each in failing)]
    measured = "" if findings else words.measured(verdict.measured, verdict.limit)
    said = [_told(finding, rooted) for finding in rest[:_MOST_FINDINGS]] + [f"measured {measured}"] * bool(measured)
    if said:
        Xml.SubElement(case, "system-out").text = _block("\n\n".join(said))


def _child(case: Xml.Element, tag: str, message: str, kind: str, text: str = "") -> None:
    element = Xml.SubElement(case, tag, type=_text(kind), message=_text(message))
    element.text = _block(text) if text else None


def _told(finding: ReportedFinding, rooted: Rooted) -> str:
    """A finding in a few lines."""
    return "\n".join(_lines(finding, rooted))


def _lines(finding: ReportedFinding, rooted: Rooted) -> Iterator[str]:
    yield f"{finding.severity.value}: {clean.line(finding.message)}"
    path = rooted.path(finding.location.file) if finding.location else ""
    if finding.location and path:
        yield f"at {clean.line(path)}:{finding.location.line}{words.inside(finding.location)}"
    if finding.where:
        yield f"in {clean.name(finding.where)}"
    if measured := words.measured(finding.measured, finding.limit):
        yield f"measured {measured}"
    for detail in finding.detail[:_MOST_DETAILS]:
        yield clean.line(detail, 300)
    yield f"fix: {story.plain(finding.fix.text)}"
    if finding.fix.trial:
        yield f"tried {tried.sentence(finding.fix.trial)}"
    if finding.caused_by:
        yield f"follows from {clean.name(finding.caused_by)}"


def _text(text: str, limit: int = clean.LONGEST_SENTENCE) -> str:
    """One neutral line that XML can hold."""
    return _FORBIDDEN.sub("", clean.line(text, limit))


def _block(text: str) -> str:
    """Lines that are neutral by themselves."""
    return _FORBIDDEN.sub("", text)
