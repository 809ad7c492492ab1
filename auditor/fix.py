"""`audit fix`: the fixes that helped on the script's own loop, written into its source."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from auditor.cli import EXIT_FINDINGS, settings_from
from auditor.command import EXIT_NOTHING, EXIT_SCRIPT_FAILED, RunOptions, conducted, exit_code, tell_kept
from auditor.edits.fixes import Plan, plan
from auditor.edits.project import project_of
from auditor.edits.suggestions import MISSING, available
from auditor.errors import AuditError
from auditor.evidence import Location
from auditor.output import FOLDER, show
from auditor.registry import rules as installed
from auditor.result import Audit, ReportedFinding, Trial
from auditor.saved import load_audit
from auditor.static.source import SourceFiles
from auditor.untrusted import neutral, one_line

_LATEST = Path(FOLDER) / "audit.json"
_LONGEST = 300


def fix_saved(path: Path | None, options: RunOptions, *, dry_run: bool, untried: bool) -> int:
    """Fix what a saved audit found, by default the latest one of this folder. Returns the exit code.

    Raises AuditError for whatever can be refused before anything is written.
    """
    path = path or _latest()
    audit = load_audit(path)
    settings = settings_from(asdict(options), Path.cwd())
    chosen = {rule.code for rule in settings.selected(installed())}
    findings = [each for each in audit.findings if each.code in chosen and settings.ignore_reason(each) is None]
    here = path.absolute().parent
    return _fix(audit, findings, here.parent if here.name == FOLDER else Path.cwd(), dry_run=dry_run, untried=untried)


def fix_target(options: RunOptions, *, dry_run: bool, untried: bool) -> int:
    """Audit a script as `audit run` does, and fix what that found. Returns the exit code. Raises AuditError."""
    if not available():
        raise AuditError(f"{MISSING}: fixes are written with it")
    done = conducted(options)
    if done.follows:  # the audit of rank 0 fixes the files
        return 0
    code = exit_code(done.outcome, done.settings)
    if code in (EXIT_SCRIPT_FAILED, EXIT_NOTHING) or code >= 128:
        return code
    audit = done.outcome.audit
    tell_kept(done.folder, done.problems, done.display)
    return _fix(audit, audit.findings, Path.cwd(), dry_run=dry_run, untried=untried)


def _latest() -> Path:
    if not _LATEST.is_file():
        raise AuditError(f"there is no {_LATEST} here; name the script: audit fix train.py")
    return _LATEST


def _fix(audit: Audit, findings: Sequence[ReportedFinding], base: Path, *, dry_run: bool, untried: bool) -> int:
    alone = audit.together is not None and not audit.together.helped
    made = plan(findings, project_of(audit.run, base), untried=untried, alone=alone)
    if dry_run:
        if made.files:
            show(neutral(made.diff()) if sys.stdout.isatty() else made.diff(), machine=True)
    else:
        made.write()
    _tell(made, len(findings), dry_run=dry_run)
    return EXIT_FINDINGS if any(each.conflict for each in made.left) else 0


def _tell(made: Plan, findings: int, *, dry_run: bool) -> None:
    """What was fixed and what was not. With --dry-run, standard output belongs to the diff."""
    for finding in made.fixed:
        _say(f"fixed {_place(finding)}: {_tried(finding.fix.trial)}", err=dry_run)
    for left in made.left:
        _say(f"left {_place(left.finding)}: {left.reason}", err=dry_run)
    if not made.files:
        rest = f"; the report has {findings} finding{'s' if findings != 1 else ''}" if findings else ""
        _say("nothing was written" if made.left else f"nothing to fix by an edit{rest}", err=dry_run)
        return
    files = ", ".join(made.name(file) for file, _ in made.files)
    count = len(made.fixed)
    what = f"{count} fix{'es' if count != 1 else ''}"
    _say(f"{what} for {files}; nothing was written" if dry_run else f"{what} written to {files}", err=dry_run)


def _place(finding: ReportedFinding) -> str:
    place = _shown(finding.location) if finding.location is not None else finding.where
    return f"{place} {finding.code} {finding.rule}".strip()


def _shown(location: Location) -> str:
    return f"{SourceFiles().display(location.file)}:{location.line}"


def _tried(trial: Trial | None) -> str:
    """'rate times 0.25: loss after 60 steps 2.3 → 0.41'."""
    if trial is None:
        return "not tried"
    moved = f"{trial.metric} after {trial.steps} steps {trial.before:.3g} → {trial.after:.3g}"
    return f"{trial.what}: {moved}" if trial.what else moved


def _say(text: str, *, err: bool) -> None:
    click.echo(one_line(text, _LONGEST), err=err)
