"""`audit check`: the rules that need nothing but the source."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from auditor.config import Settings
from auditor.declare import Rule
from auditor.errors import AuditError
from auditor.evidence import Evidence, Run, SourceFile
from auditor.judge import judge
from auditor.registry import UnknownRule
from auditor.result import Audit
from auditor.static import facts


def check_paths(paths: Sequence[Path], rules: Sequence[Rule], settings: Settings) -> Audit:
    """Judge source files, each by itself, and all Python files below folders.

    Raises AuditError when a path is not there, holds no Python, or no chosen rule can be judged without a run.
    """
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise AuditError(f"{missing[0]}: there is no such file or folder")
    try:
        chosen = settings.selected(rules)
    except UnknownRule as why:
        raise AuditError(str(why)) from None
    readable = tuple(rule for rule in chosen if reads_source_only(rule))
    if not readable:
        raise AuditError("none of the selected rules can be judged from the source alone; `audit run` judges them")
    source = facts.of_paths(paths)
    if not source.files:
        raise AuditError(f"{paths[0]}: there is no Python file in it")
    target = ", ".join(str(path) for path in paths)
    run = Run(target=target, source_only=True, python=sys.version.split()[0], notes=_unread(source.files))
    audit = judge(Evidence(run=run, source=source), readable, settings.model_copy(update={"select": ("ALL",)}))
    asked = audit.judged_by.model_copy(update={"select": settings.select}) if audit.judged_by else None
    return audit.model_copy(update={"judged_by": asked})


def reads_source_only(rule: Rule) -> bool:
    """It takes the source, and can do without everything else."""
    needs = {need.evidence: need.required for need in rule.needs}
    return "source" in needs and not any(required for name, required in needs.items() if name != "source")


def _unread(files: Sequence[SourceFile]) -> tuple[str, ...]:
    return tuple(f"{file.path} could not be read: {file.problem}" for file in files if file.problem)
