"""A comparison of two audits in words: the same sentences in every format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from auditor.compare import Change, Difference
from auditor.declare import Severity
from auditor.evidence import Location
from auditor.result import ReportedFinding

from . import clean, words

SIGNS = {"worse": "✖", "mixed": "⚠", "better": "✔", "same": "✔"}


@dataclass(frozen=True)
class Entry:
    """One line: a finding, and what is to be said of it."""

    finding: ReportedFinding
    text: str
    remark: str = ""


@dataclass(frozen=True)
class Section:
    """Findings that fared alike."""

    kind: str
    title: str
    entries: tuple[Entry, ...]


def kind(difference: Difference) -> str:
    """'worse', 'mixed', 'better' or 'same'."""
    worse = bool(difference.appeared) or any(change.worse for change in difference.changed)
    better = bool(difference.fixed)
    return ("mixed" if better else "worse") if worse else ("better" if better else "same")


def sentence(difference: Difference) -> str:
    """'2 new findings (1 error), 1 fixed, 1 changed, 4 as before.'"""
    parts = [_new(difference), f"{len(difference.fixed)} fixed"]
    if difference.changed:
        parts.append(f"{len(difference.changed)} changed")
    parts.append(f"{len(difference.unchanged)} as before")
    if difference.undecided:
        parts.append(f"{len(difference.undecided)} open")
    return ", ".join(parts) + "."


def _new(difference: Difference) -> str:
    errors = sum(finding.severity is Severity.ERROR for finding in difference.appeared)
    every = f"{words.plural(len(difference.appeared), 'new finding')}" if difference.appeared else "Nothing new"
    return f"{every} ({words.plural(errors, 'error')})" if errors else every


def sections(difference: Difference) -> Iterator[Section]:
    """What is worth reading, the most important first; findings as before are counted only."""
    rows = (
        ("new", "New", tuple(Entry(each, each.message) for each in difference.appeared)),
        ("changed", "Changed", tuple(map(_changed, difference.changed))),
        ("fixed", "Fixed", tuple(Entry(each, each.message) for each in difference.fixed)),
        ("open", "Not seen any more, but not known to be fixed", tuple(
            Entry(gone.finding, gone.finding.message, gone.reason) for gone in difference.undecided
        )),
    )  # fmt: skip
    return (Section(*row) for row in rows if row[2])


def _changed(change: Change) -> Entry:
    return Entry(change.after, change.after.message, was(change))


def was(change: Change) -> str:
    """'it was a warning; before: ...': what is not as it was."""
    before, after = change.before, change.after
    parts = []
    if before.severity is not after.severity:
        parts.append(f"{before.severity.value} before")
    if before.confidence is not after.confidence:
        parts.append(f"{before.confidence.value} before")
    if before.message != after.message:
        figures = (before.measured, after.measured)
        known = None not in figures and words.number(figures[0]) != words.number(figures[1])
        parts.append(f"measured {words.number(figures[0])} before" if known else f"before: {before.message}")
    return "; ".join(parts)


def sides(difference: Difference) -> str:
    """'train.py, 60 steps, 3 errors → train.py, 60 steps, no errors'."""
    found = []
    for side in (difference.old, difference.new):
        steps = words.plural(side.steps, "step")
        target = clean.name(side.target.replace("\\", "/").rpartition("/")[2])
        errors = words.plural(side.summary.errors, "error") if side.summary.errors else "no errors"
        found.append(f"{target}, {steps}, {errors}")
    return " → ".join(found)


def called(finding: ReportedFinding) -> str:
    """Code and name."""
    return f"{clean.name(finding.code, 16)} {clean.name(finding.rule)}"


def place(location: Location | None) -> str:
    """file:line; of a file elsewhere only its name, because folders differ between machines."""
    if location is None:
        return ""
    path = words.path(location.file)
    return f"{path.rpartition('/')[2] if path.startswith('/') else path}:{location.line}"
