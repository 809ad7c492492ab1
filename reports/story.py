"""What a report says before any format: the verdict, the findings by cause, the numbers beside a finding."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from auditor.declare import Severity
from auditor.evidence import Evidence, Run, Status
from auditor.result import Audit, Outcome, ReportedFinding, Verdict

from . import clean
from .words import listed, plural

NO_EXPERIMENTS = frozenset(
    {"start-up", "observe", "look on", "compare data sets", "check that rewinding works"}
)  # phases
FIRST = 3  # findings to fix first


@dataclass(frozen=True)
class Group:
    """A cause and the findings that it explains."""

    cause: ReportedFinding
    consequences: tuple[ReportedFinding, ...] = ()


@dataclass(frozen=True)
class Conclusion:
    """The verdict: one sentence and its kind ('ready', 'caution', 'not-ready' or 'inconclusive')."""

    kind: str
    sentence: str


def groups(audit: Audit) -> list[Group]:
    """Findings with their consequences folded below them, however far down the chain, in the audit's order."""
    causes: dict[str, str | None] = {}
    for finding in audit.findings:
        causes.setdefault(finding.rule, finding.caused_by)
    homes: dict[str, int] = {}
    found: list[tuple[ReportedFinding, list[ReportedFinding]]] = []
    folded: list[tuple[str, ReportedFinding]] = []
    for finding in audit.findings:
        root = _root(finding, causes)
        if root == finding.rule:
            homes.setdefault(finding.rule, len(found))
            found.append((finding, []))
        else:
            folded.append((root, finding))
    for root, finding in folded:
        found[homes[root]][1].append(finding)
    return [Group(cause, tuple(consequences)) for cause, consequences in found]


def _root(finding: ReportedFinding, causes: dict[str, str | None]) -> str:
    """The rule at the top of the chain; the finding's own where a cause is missing or the chain bites its tail."""
    seen, rule = {finding.rule}, finding.rule
    cause = finding.caused_by
    while cause is not None and cause in causes:
        if cause in seen:
            return finding.rule
        seen.add(cause)
        rule, cause = cause, causes[cause]
    return rule


def consequences(group: Group) -> str:
    """'2 consequences: dead-units and loss-plateau'."""
    found = group.consequences
    rules = list(dict.fromkeys(clean.name(finding.rule) for finding in found))
    return f"{plural(len(found), 'consequence')}: {listed(rules, 4)}" if found else ""


def step_between(finding: ReportedFinding, cause: ReportedFinding) -> str:
    """The rule through which `cause` leads to `finding`, or '' when it does so at once."""
    between = finding.caused_by
    return clean.name(between) if between and between != cause.rule else ""


_PROOFS = {"identity": "confirmed by an identity", "experiment": "confirmed by an experiment",
           "trial": "confirmed by its fix"}  # fmt: skip


def sure(finding: ReportedFinding) -> str:
    """'confirmed by an experiment', or 'suspected'."""
    return _PROOFS.get(finding.proof, str(finding.confidence))


def _faults(audit: Audit) -> str:
    """'2 errors', or '2 faults (5 errors)' where some of them follow from others."""
    rules = {finding.rule for finding in audit.findings}
    errors = [finding for finding in audit.findings if finding.severity is Severity.ERROR]
    causes = sum(finding.caused_by not in rules for finding in errors)
    every = plural(len(errors), "error")
    return every if causes in (0, len(errors)) else f"{plural(causes, 'fault')} ({every})"


def conclusion(audit: Audit) -> Conclusion:
    """The first sentence of every report."""
    summary, run = audit.summary, audit.run
    found = _found(audit)
    if run.source_only:
        return _source_only(audit, found)
    if run.status is not Status.COMPLETED:
        until = f"; until then: {found}" if audit.findings else ""
        return Conclusion("inconclusive", f"Inconclusive: {_ending(run)}{until}.")
    if summary.errors:
        return Conclusion("not-ready", f"Not ready: {_faults(audit)} would waste this run.")
    if not summary.passed and not audit.findings:
        return Conclusion("inconclusive", f"Inconclusive: no rule could be decided in {effort(audit)}.")
    if summary.warnings:
        return Conclusion("caution", f"Ready with care: no errors, but {found} in {effort(audit)}{_open(audit)}.")
    if summary.notes:
        return Conclusion("ready", f"Ready: nothing but {found} in {effort(audit)}{_open(audit)}.")
    return Conclusion("ready", f"Ready: nothing found in {effort(audit)}{_open(audit)}.")


def _source_only(audit: Audit, found: str) -> Conclusion:
    """Of `audit check`: what was read is no promise of what will run."""
    source = audit.evidence.source
    files = sum(not file.problem for file in source.files) if source is not None else 0
    if not files:
        return Conclusion("inconclusive", "Inconclusive: no file could be read.")
    read = f"in the source of {plural(files, 'file')}; nothing was run"
    if not audit.findings:
        return Conclusion("ready", f"Nothing found {read}.")
    kind = "not-ready" if audit.summary.errors else "caution" if audit.summary.warnings else "ready"
    return Conclusion(kind, f"{found[:1].upper()}{found[1:]} {read}.")


def _open(audit: Audit) -> str:
    """What a clean verdict must not hide."""
    undecided = audit.summary.inconclusive
    return f" ({plural(undecided, 'rule')} undecided)" if undecided else ""


def _found(audit: Audit) -> str:
    summary = audit.summary
    rows = ((summary.errors, "error"), (summary.warnings, "warning"), (summary.notes, "note"))
    return " and ".join(plural(count, noun) for count, noun in rows if count)


def _ending(run: Run) -> str:
    after = f"after {plural(run.steps, 'step')}" if run.steps else "before its first step"
    if run.status is Status.SCRIPT_FAILED:
        kind = f" with {clean.name(run.crash.name, 40)}" if run.crash and run.crash.name else ""
        return f"the script failed{kind} {after}"
    if run.status is Status.TIMEOUT:
        return f"the time was up {after}"
    if run.status is Status.INTERRUPTED:
        return f"the run was interrupted {after}"
    return "no training step was seen, so there was nothing to audit"


def effort(audit: Audit) -> str:
    """'60 steps and 4 experiments'."""
    steps = plural(audit.run.steps, "step")
    tried = (phase for phase in audit.run.phases if phase.name not in NO_EXPERIMENTS)
    ran = sum(phase.status in ("completed", "cut-short") for phase in tried)
    return f"{steps} and {plural(ran, 'experiment')}" if ran else steps


def outcomes(audit: Audit, outcome: Outcome) -> list[Verdict]:
    return [verdict for verdict in audit.verdicts if verdict.outcome is outcome]


# ------------------------------------------------------------------------------------------- the numbers of a finding


@dataclass(frozen=True)
class Series:
    """Numbers beside a finding, for a sparkline."""

    label: str
    values: tuple[float, ...]
    ordered: bool = True  # over time, so that first → last tells something


def _losses(evidence: Evidence) -> Series | None:
    path = evidence.trajectory
    return Series("loss", path.losses) if path and path.losses else None


def _norms(evidence: Evidence) -> Series | None:
    path = evidence.trajectory
    return Series("gradient norm", path.grad_norms) if path and path.grad_norms else None


def _overfit(evidence: Evidence) -> Series | None:
    arms = evidence.overfit.arms if evidence.overfit else ()
    own = next((arm for arm in arms if arm.rate_factor == 1), arms[0] if arms else None)
    return Series("loss on the pinned samples", own.losses) if own and own.losses else None


def _classes(evidence: Evidence) -> Series | None:
    labels = evidence.labels
    return Series("labels per class", tuple(map(float, labels.counts)), False) if labels and labels.counts else None


def _predicted(evidence: Evidence) -> Series | None:
    labels = evidence.labels
    if labels is None or not labels.predicted:
        return None
    return Series("predictions per class", tuple(map(float, labels.predicted)), False)


def _dead(evidence: Evidence) -> Series | None:
    layers = evidence.activations.layers if evidence.activations else ()
    shares = tuple(layer.dead / layer.units for layer in layers if layer.units)
    return Series("dead share per layer", shares, False) if shares else None


_BY_RULE: dict[str, Callable[[Evidence], Series | None]] = {
    "initial-loss": _losses,
    "nonfinite-loss": _losses,
    "cannot-overfit": _overfit,
    "missing-zero-grad": _norms,
    "misplaced-zero-grad": _norms,
    "class-imbalance": _classes,
    "majority-class-collapse": _predicted,
    "dead-units": _dead,
}
_BY_FAMILY = {"learning": _losses, "gradients": _norms}


def series(finding: ReportedFinding, evidence: Evidence) -> Series | None:
    """The series that shows this finding best, if the evidence holds one."""
    choose = _BY_RULE.get(finding.rule) or _BY_FAMILY.get(finding.family)
    found = choose(evidence) if choose else None
    return found if found and sum(map(math.isfinite, found.values)) > 1 else None


# ----------------------------------------------------------------------------------------------------- prose and code


@dataclass(frozen=True)
class Block:
    """A paragraph, or lines of code."""

    text: str
    code: bool = False


_FENCE = re.compile(r"^\s*(```+|~~~+)")


def blocks(markdown: str, most: int = 4000) -> list[Block]:
    """Paragraphs and fenced code of a short Markdown text, for formats that draw them on their own."""
    result: list[Block] = []
    rows: list[str] = []
    fenced = False

    def flush() -> None:
        if fenced and rows:
            result.append(Block("\n".join(clean.code(row) for row in rows), code=True))
        elif any(row.strip() for row in rows):
            result.append(Block(clean.line(" ".join(rows), 1200)))
        rows.clear()

    for row in markdown[:most].splitlines():
        if _FENCE.match(row):
            flush()
            fenced = not fenced
        elif not fenced and (not row.strip() or row.lstrip().startswith(("- ", "* "))):
            flush()
            rows.append(row)
        else:
            rows.append(row)
    flush()
    return result


_EMPHASIS = re.compile(r"(?<![\w*])(\*{1,2})(?=[^\s*])([^*]+?)(?<=\S)\1(?![\w*])")


def unemphasised(text: str) -> str:
    """A paragraph without its * and **, for formats that cannot set them; code spans stay as they are."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if part.startswith("`") else _EMPHASIS.sub(r"\2", part) for part in parts)


def plain(markdown: str, most: int = 4000) -> str:
    """Markdown without its marks, for formats of plain text: paragraphs and code, each neutral."""
    return "\n\n".join(b.text if b.code else unemphasised(b.text) for b in blocks(markdown, most))


def dedent(source: Sequence[str]) -> list[str]:
    """Source lines without the indentation that all of them share."""
    depth = min((len(row) - len(row.lstrip()) for row in source if row.strip()), default=0)
    return [row[depth:] for row in source]
