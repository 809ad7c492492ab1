"""Which findings of an audit can be fixed in the source, and what the files look like then."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from auditor.edits import diffs
from auditor.edits.changes import Change, NoEdit, apply, check_parses
from auditor.edits.project import check_touchable, inside
from auditor.edits.suggestions import MISSING
from auditor.edits.textfile import TextFile, read, write
from auditor.errors import AuditError
from auditor.result import ReportedFinding
from auditor.static.source import SourceFiles


@dataclass(frozen=True)
class Left:
    """A finding that is not fixed. `conflict`: it could have been, but for another fix."""

    finding: ReportedFinding
    reason: str
    conflict: bool = False


@dataclass
class _Draft:
    """A file and the changes that were decided on so far."""

    file: TextFile
    changes: list[Change] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """What is to be written. `files` are the texts before and after."""

    root: Path
    files: tuple[tuple[TextFile, str], ...]
    fixed: tuple[ReportedFinding, ...]
    left: tuple[Left, ...]

    def diff(self) -> str:
        return "".join(diffs.unified(self.name(file), file.text, after) for file, after in self.files)

    def name(self, file: TextFile) -> str:
        """The path relative to the project."""
        return file.path.relative_to(self.root).as_posix()

    def write(self) -> None:
        """Raises AuditError when a file cannot be written; each is written whole or not at all."""
        for file, after in self.files:
            write(file, after)


def plan(findings: Iterable[ReportedFinding], root: Path, *, untried: bool = False, alone: bool = False) -> Plan:
    """Take the diffs of findings whose trial helped, in their order; `untried`: of those that were not tried as well;
    `alone`: the first only, as the fixes were tried at once and did not help.

    Raises AuditError when a file is not the one that was audited: then nothing of it can be trusted.
    """
    drafts: dict[Path, _Draft] = {}
    fixed: list[ReportedFinding] = []
    left: list[Left] = []
    for finding in findings:
        try:
            reason = _reason_to_leave(finding, {each.rule for each in fixed}, untried)
            if not reason and alone and fixed:
                left.append(Left(finding, "the fixes did not help all at once; audit again", conflict=True))
                continue
            if not reason:
                _take(finding, root, drafts)
                fixed.append(finding)
        except NoEdit as why:
            reason = str(why)
        except _Conflict:
            left.append(Left(finding, "its fix touches the same place as another one; audit again", conflict=True))
            continue
        if reason and (finding.fix.diff or finding.fix.trial or finding.fix.by_hand):
            left.append(Left(finding, reason))
    files = tuple((draft.file, _after(draft)) for draft in drafts.values() if draft.changes)
    return Plan(root, files, tuple(fixed), tuple(left))


class _Conflict(Exception):
    """Two fixes touch the same place."""


def _reason_to_leave(finding: ReportedFinding, fixed: set[str], untried: bool) -> str:
    """Why a finding's diff is not applied; '' for one that is. Raises AuditError when edits cannot be written here."""
    fix = finding.fix
    if fix.trial is not None and not fix.trial.helped:
        return "it was tried, and did not help"
    if fix.trial is None and not untried:
        return f"it was not tried{f': {fix.untried}' if fix.untried else ''}"
    if finding.caused_by in fixed:
        return f"it follows from {finding.caused_by}, which is fixed; audit again"
    if fix.by_hand == MISSING:
        raise AuditError(f"{MISSING}, then audit again: fixes are written with it")
    if not fix.diff:
        return f"by hand: {fix.by_hand}" if fix.by_hand else "there is no edit for it"
    return ""


def _take(finding: ReportedFinding, root: Path, drafts: dict[Path, _Draft]) -> None:
    """Add a finding's changes to the drafts, all or none. Raises NoEdit, _Conflict or AuditError."""
    _check_unchanged(finding)
    added: list[tuple[_Draft, list[Change]]] = []
    try:
        for file in diffs.parse(finding.fix.diff or ""):
            real = check_touchable(inside(file.name, root), root)
            draft = drafts.get(real) or _Draft(read(real))
            try:
                changes = diffs.changes(file, draft.file.text)
            except diffs.Mismatch:
                raise AuditError(_changed(file.name)) from None
            if any(mine.meets(other) for mine in changes for other in draft.changes):
                raise _Conflict
            added.append((draft, changes))
    except diffs.Mismatch as why:
        raise AuditError(f"the diff of {finding.rule} is damaged: {why}") from None
    for draft, changes in added:
        drafts[draft.file.path] = draft
        draft.changes += changes


def _check_unchanged(finding: ReportedFinding) -> None:
    """The lines around the finding are those that were audited."""
    if finding.location is not None and finding.source:
        sources = SourceFiles()
        if sources.frame(finding.location) != finding.source:
            raise AuditError(_changed(sources.display(finding.location.file)))


def _changed(name: str) -> str:
    return f"{name} has changed since it was audited; audit it again. Nothing was written"


def _after(draft: _Draft) -> str:
    try:
        after = apply(draft.file.text, draft.changes)
        check_parses(after)
    except NoEdit as why:
        raise AuditError(f"{draft.file.path.name}: {why}. Nothing was written") from None
    return after
