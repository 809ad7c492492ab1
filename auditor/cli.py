"""The command line. Everything but click is imported inside the commands, so that `audit --help` is quick."""

from __future__ import annotations

import difflib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from auditor import __version__
from auditor.errors import AuditError
from auditor.options import Duration, gate, reporting, selection
from auditor.untrusted import neutral

if TYPE_CHECKING:
    from auditor.config import Settings
    from auditor.declare import Rule
    from auditor.output import Output
    from auditor.result import Audit

EXIT_FINDINGS = 1
EXIT_USAGE = 2


class _Commands(click.Group):
    """Suggests the command that was meant, also for a bare `audit train.py`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            if name.endswith(".py") or Path(name).exists():
                raise click.UsageError(f"there is no command {name!r}; did you mean: audit run {' '.join(args)}", ctx)
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=1, cutoff=0.5)
            raise click.UsageError(
                f"there is no command {name!r}" + (f"; did you mean {near[0]}?" if near else ""), ctx
            )
        return super().resolve_command(ctx, args)


class _RunCommand(click.Command):
    """Its arguments end at the target: everything after it is the script's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as wrong:
            close = difflib.get_close_matches(wrong.option_name, wrong.possibilities or (), n=1, cutoff=0.7)
            near = f" (did you mean {close[0]}?)" if close else ""
            message = f"no such option: {wrong.option_name}{near}; options for your script go after its name"
            raise click.UsageError(message, ctx) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="audit")
def cli() -> None:
    """Audit a PyTorch training script before its long run.

    \b
      audit run train.py --lr 0.1     run it for a short probe, and say what is wrong
      audit check src/                read the source only, in under a second
      audit explain RULE              what a finding means, and how to fix it
    """


@cli.command(cls=_RunCommand, context_settings={"allow_interspersed_args": False})
@click.option(
    "--steps", type=click.IntRange(min=1), envvar="AUDIT_STEPS", help="Optimizer steps to observe.  [default: 60]"
)
@click.option(
    "--look-on",
    type=click.IntRange(min=0),
    metavar="N",
    envvar="AUDIT_LOOK_ON",
    help="Steps after those, for what comes late.  [default: 440]",
)
@click.option(
    "--max-time",
    type=Duration(),
    envvar="AUDIT_MAX_TIME",
    help="Limit of the whole audit: seconds, or 90s, 5m, 1h.  [default: 120]",
)
@click.option(
    "--batch-memory",
    type=click.IntRange(min=1),
    metavar="MB",
    envvar="AUDIT_BATCH_MEMORY",
    help="Memory for batches that are kept for replays.  [default: 256]",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    envvar="AUDIT_DEVICE",
    help="For files without a loop; a script decides for itself.",
)
@click.option("--seed", type=int, envvar="AUDIT_SEED", help="Seed the random number generators first.")
@click.option("--no-experiments", is_flag=True, help="Observe only.")
@click.option("--no-trials", is_flag=True, help="Do not try the fixes of what is found.")
@click.option(
    "--side-effects",
    type=click.Choice(["divert", "allow"]),
    default="divert",
    envvar="AUDIT_SIDE_EFFECTS",
    show_default=True,
    help="What the script writes goes to scratch, and trackers stay offline; or all happens for real.",
)
@click.option("-m", "--module", is_flag=True, help="TARGET is a module, as in python -m.")
@selection
@gate
@reporting
@click.option("--show-output", is_flag=True, help="Show what the script prints while it runs.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no hints.")
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
    from auditor.registry import rules

    outputs = _outputs(options)
    settings = settings_from(options, paths[0].absolute() if paths[0].is_dir() else paths[0].absolute().parent)
    audit = check_paths(paths, rules(), settings)
    _publish(audit, outputs, options)
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
    from auditor.registry import rules
    from auditor.saved import load_evidence

    outputs = _outputs(options)
    found = load_evidence(evidence)
    settings = settings_from(options, Path.cwd())
    audit = judge_evidence(found, rules(), settings)
    _publish(audit, outputs, options)
    sys.exit(EXIT_FINDINGS if audit.fails(settings.fail_on) else 0)


@cli.command()
@reporting
@click.argument("audit_file", metavar="AUDIT.json", type=click.Path(path_type=Path))
def report(audit_file: Path, **options: Any) -> None:
    """Render a saved audit again, in any format."""
    from auditor.saved import load_audit

    outputs = _outputs(options)
    _publish(load_audit(audit_file), outputs, options)


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
    import json

    from auditor.output import show
    from auditor.result import Audit

    show(json.dumps(Audit.model_json_schema(mode="serialization"), indent=2), machine=True)


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


def _outputs(options: dict[str, Any]) -> list[Output]:
    """Everything about the reports that can be refused before anything runs."""
    from auditor.output import check_format, parse_output

    check_format(options["format_"])
    return [parse_output(text) for text in options["outputs"]]


def _publish(audit: Audit, outputs: Sequence[Output], options: dict[str, Any]) -> None:
    """Report to standard output and to the files. Raises AuditError when a file cannot be written."""
    from auditor.output import render, show, write

    show(render(audit, options["format_"], color=options["color"]), machine=options["format_"] != "text")
    if problems := write(audit, outputs):
        raise AuditError("; ".join(problems))


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
