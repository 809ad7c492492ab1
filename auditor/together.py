"""The fixes of several faults at once: what helps one by one need not help together."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.evidence import Evidence, Remedy, RemedyKind
from auditor.evidence.trials import keys
from auditor.result import ReportedFinding, Trial
from auditor.spec import TrialRequest
from auditor.trials import made, result

# Measured with the same weights, beside the loop: they change nothing in training that others could be in the way of.
_BESIDE = (
    RemedyKind.EVALUATION_MODE,
    RemedyKind.QUIET_EVALUATION,
    RemedyKind.CAUSAL_MASK,
    RemedyKind.PADDING_MASK,
    RemedyKind.PAIRED_METRIC,
    RemedyKind.BATCH_FIRST,
    RemedyKind.SWAP_AXES,
)


def remedies(findings: Sequence[ReportedFinding]) -> tuple[Remedy, ...]:
    """What helped against the root causes; () where that is one thing or none."""
    found: dict[tuple[object, ...], Remedy] = {}
    for finding in findings:
        trial = finding.fix.trial
        if finding.caused_by is None and trial is not None and trial.helped:
            found |= {remedy.key: remedy for remedy in finding.fix.tried if remedy.kind not in _BESIDE}
    return tuple(found.values()) if len(found) > 1 else ()


def request(findings: Sequence[ReportedFinding], evidence: Evidence) -> TrialRequest | None:
    """The trial of all of them at once; None where there is nothing to try, or one has shown it already: a remedy that
    was tried on top of all the others."""
    every = remedies(findings)
    whole = set(keys(every))
    if not every or any({*keys(run.remedies), *keys(run.base)} == whole for run in made(evidence)):
        return None
    return TrialRequest(remedies=every)


def outcome(findings: Sequence[ReportedFinding], evidence: Evidence) -> Trial | None:
    """What came of it; None where they were not tried at once, against the loop as it is."""
    every = remedies(findings)
    runs = (run for run in made(evidence) if every and run.looks and not run.base and keys(run.remedies) == keys(every))
    return next((result(run) for run in runs), None)
