"""The command line. Everything but click is imported inside the commands, so that `audit --help` is quick."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from auditor import __version__
from auditor.comparing import diff
from auditor.errors import AuditError
from auditor.hints import Commands, RunCommand
from auditor.options import gate, reporting, running, selection, watching
from auditor.untrusted import neutral

if TYPE_CHECKING:
    from auditor.config import Settings
    from auditor.declare import Rule, Severity
    from auditor.publish import Publisher
    from auditor.result import Audit

EXIT_FINDINGS = 1
EXIT_USAGE = 2


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="audit")
def cli() -> None:
    """Audit a PyTorch training script before its long run.

    \b
      audit run train.py --lr 0.1     run it for a short probe, and say what is wrong
      audit fix                       write the fixes that helped into the source
      audit check src/                read the source only, in under a second
      audit report AUDIT.json -o F    the same audit as HTML, SARIF, JUnit, ...
      audit diff OLD.json NEW.json    what is new, what is fixed
      audit explain RULE              what a finding means, and how to fix it
    """


@cli.command(cls=RunCommand, context_settings={"allow_interspersed_args": False})
@running
@selection
@gate
@reporting
@watching
@click.argument("target")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def run(**options: Any) -> None:
    """Run TARGET for a short probe and audit its training.

    Everything after TARGET is passed to it: audit run train.py --lr 0.1

    Exit code: 0 no finding at or above --fail-on, 1 findings, 2 usage or configuration, 3 the script failed,
    5 no training step was seen, 130 or 143 interrupted.
    """
    from auditor.command import RunOptions, run_command

    if options["args"][:1] == ("--",):
        options["args"] = options["args"][1:]
    sys.exit(run_command(RunOptions(**options)))


@cli.command(cls=RunCommand, context_settings={"allow_interspersed_args": False})
@click.option(
    "--from",
    "saved",
    type=click.Path(path_type=Path),
    metavar="AUDIT.json",
    help="Fix what this audit found, without running anything.  [default: .audit/audit.json]",
)
@click.option("--dry-run", is_flag=True, help="Print the diff; write nothing.")
@click.option("--include-untried", is_flag=True, help="Also write fixes that were not tried on the script's loop.")
@running
@selection
@watching
@click.argument("target", required=False)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def fix(saved: Path | None, dry_run: bool, include_untried: bool, **options: Any) -> None:
    """Write the fixes that helped into the source.

    With TARGET, it is audited as by `audit run`, and everything after it is passed to it; without, the latest audit of
    this folder is taken. Only fixes that were tried on the script's own loop, and helped, are written, and only into
    files of the project that have not changed since.

    Exit code: 0 all of them are written, or there was nothing to fix; 1 some touch the same place, audit again;
    2 usage, a file that has changed; 3, 5, 130, 143 as for run.
    """
    from auditor.command import RunOptions
    from auditor.fix import fix_saved, fix_target

    target = options["target"]
    if target is not None and saved is not None:
        raise click.UsageError("--from takes the place of a script; give one of them")
    if target is not None and target.endswith(".json"):
        raise click.UsageError(f"{target} is no script; did you mean: audit fix --from {target}")
    if options["args"][:1] == ("--",):
        options["args"] = options["args"][1:]
    options["target"] = target or ""
    wanted = RunOptions(**options, fail_on=None, format_="text", outputs=(), color="auto")
    if wanted.target:
        sys.exit(fix_target(wanted, dry_run=dry_run, untried=include_untried))
    sys.exit(fix_saved(saved, wanted, dry_run=dry_run, untried=include_untried))


@cli.command()
@selection
@gate
@reporting
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
def check(paths: tuple[Path, ...], **options: Any) -> None:
    """Read the source of PATHS, files or folders, without running anything.

    Only the rules that need no run are judged; it takes under a second.
    Exit code: 0 or 1, as for run; 2 when a path cannot be read.
    """
    from auditor.check import check_paths
    from auditor.publish import Publisher
    from auditor.registry import rules

    publisher = Publisher.of(options)
    settings = settings_from(options, paths[0].absolute() if paths[0].is_dir() else paths[0].absolute().parent)
    audit = check_paths(paths, rules(), settings)
    _publish(audit, publisher, settings.fail_on)
    sys.exit(EXIT_FINDINGS if audit.fails(settings.fail_on) else 0)


@cli.command()
@selection
@gate
@reporting
@click.argument("evidence", type=click.Path(path_type=Path))
def judge(evidence: Path, **options: Any) -> None:
    """Judge saved EVIDENCE again, without running anything.

    EVIDENCE is .audit/evidence.json or a saved audit. Exit code: 0 or 1, as for run.
    """
    from auditor.judge import judge as judge_evidence
    from auditor.publish import Publisher
    from auditor.registry import rules
    from auditor.saved import load_evidence

    publisher = Publisher.of(options)
    found = load_evidence(evidence)
    settings = settings_from(options, Path.cwd())
    audit = judge_evidence(found, rules(), settings)
    _publish(audit, publisher, settings.fail_on)
    sys.exit(EXIT_FINDINGS if audit.fails(settings.fail_on) else 0)


@cli.command()
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning", "note", "never"]),
    default="error",
    show_default=True,
    envvar="AUDIT_FAIL_ON",
    help="Least severe finding that JUnit shows as a failure; the exit code is 0.",
)
@reporting
@click.argument("audit_file", metavar="AUDIT.json", type=click.Path(path_type=Path))
def report(audit_file: Path, fail_on: str, **options: Any) -> None:
    """Render a saved audit again, in any format, without running anything."""
    from auditor.declare import Severity
    from auditor.publish import Publisher
    from auditor.saved import load_audit

    publisher = Publisher.of(options)
    _publish(load_audit(audit_file), publisher, None if fail_on == "never" else Severity(fail_on))


cli.add_command(diff)


@cli.command()
@click.option("--select", multiple=True, metavar="RULES", help="Names, codes or code prefixes, separated by commas.")
@click.option("--format", "format_", type=click.Choice(["text", "json", "markdown"]), default="text", show_default=True)
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", envvar="AUDIT_COLOR")
def rules(select: tuple[str, ...], format_: str, color: str) -> None:
    """List the rules."""
    from auditor.output import show, terminal_width, use_color
    from auditor.pages import listing
    from auditor.registry import rules as installed

    chosen = {rule.code for selector in _words(select) or ["ALL"] for rule in _find(selector)}
    wanted = [rule for rule in installed() if rule.code in chosen]
    show(listing(wanted, format_, color=use_color(color), width=terminal_width()), machine=format_ != "text")


@cli.command()
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", envvar="AUDIT_COLOR")
@click.argument("rule")
def explain(rule: str, color: str) -> None:
    """Show the page of RULE, by name or code: what it finds, why it matters, how to fix it."""
    from auditor.output import show, terminal_width, use_color
    from auditor.pages import listing, page

    found = _find(rule.strip())
    shade = use_color(color)
    show(
        page(found[0], color=shade) if len(found) == 1 else listing(found, "text", color=shade, width=terminal_width())
    )


@cli.command()
def schema() -> None:
    """Print the JSON schema of an audit."""
    from auditor.output import show
    from auditor.schema import schema_text

    show(schema_text(), machine=True)


def _words(values: Sequence[str]) -> list[str]:
    return [word.strip() for value in values for word in value.split(",") if word.strip()]


def _find(selector: str) -> Sequence[Rule]:
    from auditor.registry import UnknownRule, find

    try:
        return find(selector)
    except UnknownRule as why:
        raise AuditError(str(why)) from None


def settings_from(options: dict[str, Any], start: Path) -> Settings:
    """Settings of the file nearest to `start`, below the command line's and the environment's."""
    from auditor.config import Ignore
    from auditor.configfile import load
    from auditor.registry import rules as installed

    select = tuple(_words(options["select"]))
    if options["select"] and not select:
        raise AuditError("--select names no rule")
    overrides = {
        "steps": options.get("steps"),
        "look_on": options.get("look_on"),
        "trials": False if options.get("no_trials") else None,
        "max_time": options.get("max_time"),
        "batch_memory": options.get("batch_memory"),
        "fail_on": options["fail_on"],
        "select": select or None,
        "ignore": tuple(Ignore(rule=word, reason="--ignore") for word in _words(options["ignore"])),
    }
    return load(start, installed(), config=options["config"], overrides=overrides)


def _publish(audit: Audit, publisher: Publisher, fail_on: Severity | None) -> None:
    """Report everywhere. Raises AuditError when a file cannot be written."""
    from auditor.hosted import commands_stopped

    with commands_stopped(publisher.hosted, machine=publisher.machine):
        publisher.show(audit, fail_on)
    problems = publisher.post(audit, fail_on)
    for problem in problems:
        click.echo(f"audit: {neutral(problem)}", err=True)
    if failed := publisher.write(audit, fail_on):
        raise AuditError("; ".join(failed))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console scripts. Always ends by SystemExit, with the exit codes of `audit run --help`."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller: `audit run train.py >&-`
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    try:
        code = cli.main(args=None if arguments is None else list(arguments), prog_name="audit", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as wrong:
        wrong.show()
        sys.exit(EXIT_USAGE)
    except AuditError as why:
        click.echo(f"audit: {neutral(str(why))}", err=True)
        sys.exit(EXIT_USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        sys.exit(EXIT_USAGE)
    except Exception as bug:
        import traceback

        traceback.print_exc()
        click.echo(f"audit: internal error: {type(bug).__name__}: {bug}", err=True)
        sys.exit(EXIT_USAGE)
