"""The order of findings: root causes first, each followed by what it leads to.

Four things decide what is a cause of what. The rules say which findings theirs explains. Time: what was there at step
0 is no consequence of what appeared at step 20. Trials: what its own remedy cures, while that of the supposed cause
does not, stands by itself. And weight: of several causes of one finding, the strongest takes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from auditor.evidence import Evidence
from auditor.result import ReportedFinding

# What is built into the program is there before the first step; what grows in training says itself since when.
FROM_THE_START = frozenset({"init", "data", "loss", "model", "sequence", "leakage"})


def diagnose(
    findings: Sequence[ReportedFinding], explains: Mapping[str, Sequence[str]], evidence: Evidence
) -> list[ReportedFinding]:
    """Findings with `caused_by`, in the order of the report. `explains`: rule -> rules whose findings it explains."""
    depth = _depths(evidence)
    ordered = sorted(findings, key=lambda finding: _strength(finding, depth))
    causes = _causes(ordered, explains)
    result: list[ReportedFinding] = []

    def place(rule: str | None) -> None:
        for finding in ordered:
            if causes.get(finding.rule) == rule and finding not in result:
                result.append(finding.model_copy(update={"caused_by": rule}))
                if [other for other in ordered if other.rule == finding.rule][-1] is finding:
                    place(finding.rule)

    place(None)
    return result


def _strength(finding: ReportedFinding, depth: Mapping[str, int]) -> tuple[int, bool, int, int, int, str]:
    """The first key wins: severity, confidence, what came of its trial, when and where it appeared, the code."""
    began = _since(finding)
    return (
        finding.severity.rank,
        finding.confidence == "suspected",
        _trial_rank(finding),
        10**9 if began is None else began,
        depth.get(finding.where, 10**9),
        finding.code,
    )


def _trial_rank(finding: ReportedFinding) -> int:
    """A remedy helped; none was tried; none of those that were tried helped."""
    if finding.fix.trial is None:
        return 1
    return 0 if finding.fix.trial.helped else 2


def _since(finding: ReportedFinding) -> int | None:
    if finding.since is not None:
        return finding.since
    return 0 if finding.family in FROM_THE_START else None


def _depths(evidence: Evidence) -> dict[str, int]:
    """Qualified name of a layer -> its place on the way from the input to the loss."""
    models = evidence.program.models if evidence.program is not None else ()
    names = [layer.name for model in models for layer in model.layers]
    return {name: place for place, name in reversed(list(enumerate(names)))}


def _causes(ordered: Sequence[ReportedFinding], explains: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Rule of a consequence -> rule of its cause: the strongest of those that explain it."""
    causes: dict[str, str] = {}
    by_rule: dict[str, list[ReportedFinding]] = {}
    for finding in ordered:
        by_rule.setdefault(finding.rule, []).append(finding)
    for cause, those in by_rule.items():
        for name in explains.get(cause, ()):
            if name not in by_rule or not _may_cause(those[0], by_rule[name][0]):
                continue
            if cause not in _chain(name, causes) and _root(cause, causes) != name:
                causes.setdefault(name, cause)
    return causes


def _may_cause(cause: ReportedFinding, consequence: ReportedFinding) -> bool:
    """Nothing that was measured speaks against it."""
    began, appeared = _since(cause), _since(consequence)
    if began is not None and appeared is not None and began > appeared:
        return False
    stands_alone = _trial_rank(consequence) == 0 and _trial_rank(cause) != 0
    weaker = cause.severity.rank > consequence.severity.rank or cause.confidence == "suspected"
    return not (stands_alone and weaker)


def _root(rule: str, causes: Mapping[str, str]) -> str:
    while rule in causes:
        rule = causes[rule]
    return rule


def _chain(rule: str, causes: Mapping[str, str]) -> set[str]:
    """`rule` and everything it already explains."""
    return {rule} | {name for name in causes if rule in _ancestors(name, causes)}


def _ancestors(rule: str, causes: Mapping[str, str]) -> set[str]:
    found: set[str] = set()
    while rule in causes:
        rule = causes[rule]
        found.add(rule)
    return found
