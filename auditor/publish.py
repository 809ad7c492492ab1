"""What a command does with its audit: to standard output, into files, and to the service that runs the job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor.compare import compare
from auditor.declare import Severity
from auditor.hosted import annotate, on_github, summarize
from auditor.output import Output, Wanted, check_format, parse_output, render, show, write
from auditor.result import Audit
from auditor.saved import load_audit


@dataclass(frozen=True)
class Publisher:
    """Everything about the reports that can be refused before anything runs."""

    format: str
    outputs: Sequence[Output]
    color: str
    baseline: Audit | None
    hosted: bool

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Publisher:
        """From the options of `reporting` and `gate`. Raises AuditError."""
        baseline: Path | None = options.get("baseline")
        return cls(
            format=check_format(options["format_"]),
            outputs=[parse_output(text) for text in options["outputs"]],
            color=options["color"],
            baseline=load_audit(baseline) if baseline is not None else None,
            hosted=on_github(options.get("ci") or "none"),
        )

    @property
    def machine(self) -> bool:
        return self.format != "text"

    def show(self, audit: Audit, fail_on: Severity | None) -> None:
        """To standard output."""
        show(render(audit, self.format, color=self.color, wanted=self._wanted(audit, fail_on)), machine=self.machine)

    def write(self, audit: Audit, fail_on: Severity | None) -> list[str]:
        """Into the files; sentences about those that could not be written."""
        return write(audit, self.outputs, self._wanted(audit, fail_on))

    def post(self, audit: Audit, fail_on: Severity | None) -> list[str]:
        """To the service that runs the job, if there is one; sentences about what it did not take."""
        if not self.hosted:
            return []
        problems = [] if self.machine else [annotate(audit)]  # a machine format has standard output for itself
        return [text for text in (*problems, summarize(audit, self._wanted(audit, fail_on))) if text]

    def _wanted(self, audit: Audit, fail_on: Severity | None) -> Wanted:
        return Wanted(fail_on, compare(self.baseline, audit) if self.baseline is not None else None)
