"""What changed between two audits: findings that are new, fixed or changed, and how far that can be trusted."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from functools import cached_property

from auditor.declare import Severity
from auditor.evidence import Frozen, Status
from auditor.identity import key
from auditor.result import Audit, Outcome, ReportedFinding, Summary, Tool
from auditor.rooted import Rooted
from auditor.untrusted import one_line

_DECIDED = (Outcome.PASS, Outcome.FAIL, Outcome.NOT_APPLICABLE)
_MOST_NAMED = 4


class Change(Frozen):
    """A finding that both audits have, with another severity or other figures."""

    before: ReportedFinding
    after: ReportedFinding

    @property
    def worse(self) -> bool:
        """More severe than it was."""
        return self.after.severity.rank < self.before.severity.rank


class Gone(Frozen):
    """A finding of the old audit that the new one does not have, and why that is no proof of its repair."""

    finding: ReportedFinding
    reason: str


class Side(Frozen):
    """One of the two audits, as far as a comparison shows it."""

    target: str
    status: Status
    steps: int
    tool: Tool
    summary: Summary


class Difference(Frozen):
    """The new audit against the old one. Findings are in the order of their own audit."""

    old: Side
    new: Side
    appeared: tuple[ReportedFinding, ...] = ()
    fixed: tuple[ReportedFinding, ...] = ()
    changed: tuple[Change, ...] = ()
    unchanged: tuple[ReportedFinding, ...] = ()
    undecided: tuple[Gone, ...] = ()
    cautions: tuple[str, ...] = ()

    @cached_property
    def _marks(self) -> dict[int, Change | None]:
        marks: dict[int, Change | None] = {id(finding): None for finding in self.appeared}
        return marks | {id(change.after): change for change in self.changed}

    def is_new(self, finding: ReportedFinding) -> bool:
        """Of a finding of the new audit itself, not of an equal one."""
        return id(finding) in self._marks and self._marks[id(finding)] is None

    def change_of(self, finding: ReportedFinding) -> Change | None:
        return self._marks.get(id(finding))

    def fails(self, threshold: Severity | None) -> bool:
        """True when a new finding, or one that became more severe, is at least as severe as `threshold`."""
        grown = [*self.appeared, *(change.after for change in self.changed if change.worse)]
        return threshold is not None and any(finding.severity.rank <= threshold.rank for finding in grown)


def compare(old: Audit, new: Audit) -> Difference:
    """Match the findings by their fingerprints: rule, place, source line, file. The findings themselves are kept, not
    copies of them."""
    pairs, gone, appeared = _matched(old, new)
    changed = [Change(before=before, after=after) for before, after in pairs if _differs(before, after)]
    undecided = [Gone(finding=finding, reason=reason) for finding in gone if (reason := _why_undecided(finding, new))]
    open_ = {id(each.finding) for each in undecided}
    return Difference(
        old=_side(old),
        new=_side(new),
        appeared=tuple(appeared),
        fixed=tuple(finding for finding in gone if id(finding) not in open_),
        changed=tuple(changed),
        unchanged=tuple(after for before, after in pairs if not _differs(before, after)),
        undecided=tuple(undecided),
        cautions=tuple(_cautions(old, new)),
    )


def _side(audit: Audit) -> Side:
    run = audit.run
    return Side(target=run.target, status=run.status, steps=run.steps, tool=audit.tool, summary=audit.summary)


Pair = tuple[ReportedFinding, ReportedFinding]


def _matched(old: Audit, new: Audit) -> tuple[list[Pair], list[ReportedFinding], list[ReportedFinding]]:
    """(the same in both, only in the old one, only in the new one); first by file, then wherever the file is now."""
    keys = {id(f): key(f, rooted) for audit in (old, new) for rooted in [Rooted(audit)] for f in audit.findings}
    pairs: dict[int, Pair] = {}
    taken: set[int] = set()
    for parts in (2, 1):
        waiting: dict[tuple[str, ...], deque[ReportedFinding]] = defaultdict(deque)
        for finding in old.findings:
            if id(finding) not in taken:
                waiting[keys[id(finding)][:parts]].append(finding)
        for finding in new.findings:
            if id(finding) not in pairs and (candidates := waiting[keys[id(finding)][:parts]]):
                before = candidates.popleft()
                taken.add(id(before))
                pairs[id(finding)] = (before, finding)
    same = [pairs[id(finding)] for finding in new.findings if id(finding) in pairs]
    left = [finding for finding in old.findings if id(finding) not in taken]
    return same, left, [finding for finding in new.findings if id(finding) not in pairs]


def _differs(before: ReportedFinding, after: ReportedFinding) -> bool:
    """Another severity, certainty or message, which holds the figures."""
    return (before.severity, before.confidence, before.message) != (after.severity, after.confidence, after.message)


def _why_undecided(finding: ReportedFinding, new: Audit) -> str:
    """Why the finding's absence from the new audit does not say that the fault is gone; '' when it does."""
    if any(each.finding.id == finding.id for each in new.suppressed):
        return "it is suppressed now"
    verdict = next((each for each in new.verdicts if each.code == finding.code), None)
    if verdict is None:
        return "its rule was not judged"
    if verdict.outcome in _DECIDED:
        return ""
    state = "broken" if verdict.outcome is Outcome.ERROR else "inconclusive"
    reason = one_line(verdict.reason, 200)
    return f"its rule was {state}: {reason}" if reason else f"its rule was {state}"


# ---------------------------------------------------------------------------------------------------------- cautions


def _cautions(old: Audit, new: Audit) -> Iterable[str]:
    """Sentences about what else differs between the audits, and may be the reason of a difference."""
    for what, one, other in _facts(old, new):
        if one != other:
            yield f"{what}: {one_line(one, 120) or 'none'} before, {one_line(other, 120) or 'none'} now"
    yield from _other_rules(old, new)
    limits = _other_limits(old, new)
    if limits:
        yield f"other limits of {_listed(limits)}"


def _facts(old: Audit, new: Audit) -> Iterable[tuple[str, str, str]]:
    one, other = old.run, new.run
    yield "another version of the tool", f"{old.tool.name} {old.tool.version}", f"{new.tool.name} {new.tool.version}"
    yield "another script", _file_name(one.target), _file_name(other.target)
    yield "other arguments", " ".join(one.args), " ".join(other.args)
    yield "another ending", one.status.value, other.status.value
    yield "another number of steps", str(one.steps), str(other.steps)
    yield "another device", one.device, other.device
    yield "another torch", one.torch, other.torch
    yield "another seed", _known(one.seed), _known(other.seed)
    yield "only the source was read", str(one.source_only).lower(), str(other.source_only).lower()


def _file_name(target: str) -> str:
    """Folders differ between machines."""
    return target.replace("\\", "/").rpartition("/")[2]


def _known(value: object) -> str:
    return "" if value is None else str(value)


def _other_rules(old: Audit, new: Audit) -> Iterable[str]:
    before, after = ({verdict.code for verdict in audit.verdicts} for audit in (old, new))
    if before - after:
        yield f"not judged any more: {_listed(sorted(before - after))}"
    if after - before:
        yield f"not judged before: {_listed(sorted(after - before))}"


def _other_limits(old: Audit, new: Audit) -> list[str]:
    """Rules that passed or failed by a limit, and by another one before."""
    before = {verdict.code: verdict.limit for verdict in old.verdicts}
    return sorted(
        verdict.code
        for verdict in new.verdicts
        if verdict.limit is not None and before.get(verdict.code) not in (None, verdict.limit)
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(one_line(name, 40) for name in names[:_MOST_NAMED])
    rest = len(names) - _MOST_NAMED
    return f"{shown} and {rest} more" if rest > 0 else shown
