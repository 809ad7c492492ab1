"""In a workflow of GitHub Actions: annotations, the summary of the job, and no commands but our own.

The runner takes every line that begins with `::` for a command, on both streams, also one that the script printed or
that stands in a label. So commands are stopped, under a token that nobody can guess, while the audit runs and reports.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from auditor.output import Wanted, render_file, show
from auditor.result import Audit

SUMMARY_LIMIT = 1_048_576  # bytes of one step; a larger file is refused as a whole


def on_github(choice: str, environment: Mapping[str, str] = os.environ) -> bool:
    """`choice` is --ci: 'none' turns it off."""
    return choice == "auto" and environment.get("GITHUB_ACTIONS") == "true"


@contextmanager
def commands_stopped(active: bool, *, machine: bool = False) -> Iterator[None]:
    """Until the end, lines that look like commands are only shown. With a machine format on standard output, which has
    to stay its own, the runner is told on the other stream."""
    if not active:
        yield
        return
    token = secrets.token_hex(16)
    _tell(f"::stop-commands::{token}", machine)
    try:
        yield
    finally:
        _tell(f"::{token}::", machine)


def _tell(command: str, machine: bool) -> None:
    if machine:
        with suppress(OSError):
            print(command, file=sys.stderr, flush=True)
    else:
        show(command)


def annotate(audit: Audit) -> str:
    """Findings as annotations, on standard output; a sentence when that failed, else ''."""
    try:
        show(render_file(audit, "github"), machine=True)
    except Exception as why:  # a report's bug must not cost the others
        return f"the annotations failed: {type(why).__name__}: {why}"
    return ""


def summarize(audit: Audit, wanted: Wanted, environment: Mapping[str, str] = os.environ) -> str:
    """Append the Markdown report to the summary of the job; a sentence when it could not be, else ''."""
    place = environment.get("GITHUB_STEP_SUMMARY", "")
    if not place:
        return ""
    try:
        path = Path(place)
        there = path.stat().st_size if path.exists() else 0
        data = ("\n" * bool(there) + render_file(audit, "markdown", wanted)).encode("utf-8", "replace")
        if there + len(data) > SUMMARY_LIMIT:
            return f"the report is left out of the summary of this job, which takes {SUMMARY_LIMIT:,} bytes a step"
        with open(path, "ab") as file:
            file.write(data)
    except OSError as why:
        return f"the summary of this job could not be written: {why.strerror or why}"
    except Exception as why:  # a report's bug must not cost the others
        return f"the summary of this job failed: {type(why).__name__}: {why}"
    return ""
