"""`audit diff`: what changed between two saved audits."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning", "note", "never"]),
    default="error",
    show_default=True,
    envvar="AUDIT_FAIL_ON",
    help="Least severe new finding that makes the exit code 1.",
)
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", envvar="AUDIT_COLOR")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="FILE",
    help="Also write FILE: .json, .md, .html or .txt, or FORMAT:FILE. Repeatable.",
)
@click.option(
    "--format", "format_", default="text", show_default=True, metavar="FORMAT",
    help="Standard output: text, json, markdown or html.",
)  # fmt: skip
@click.argument("old", metavar="OLD.json", type=click.Path(path_type=Path))
@click.argument("new", metavar="NEW.json", type=click.Path(path_type=Path))
def diff(old: Path, new: Path, fail_on: str, color: str, outputs: tuple[str, ...], format_: str) -> None:
    """Compare two saved audits: what is new, fixed, changed.

    A finding is the same one where rule, place and source line are; it may have moved. What else differs between the
    audits, such as other rules or another version, is said.
    Exit code: 0; 1 with a new finding, or a more severe one, at or above --fail-on; 2 when a file cannot be read.
    """
    from auditor.compare import compare
    from auditor.declare import Severity
    from auditor.errors import AuditError
    from auditor.output import check_format, parse_output, render_comparison, show, write_comparison
    from auditor.registry import comparison_formats
    from auditor.saved import load_audit

    formats = comparison_formats()
    check_format(format_, formats)
    files = [parse_output(text, formats) for text in outputs]
    found = compare(load_audit(old), load_audit(new))
    show(render_comparison(found, format_, color=color), machine=format_ != "text")
    if problems := write_comparison(found, files):
        raise AuditError("; ".join(problems))
    sys.exit(found.fails(None if fail_on == "never" else Severity(fail_on)))
