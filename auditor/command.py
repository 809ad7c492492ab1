"""`audit run`: from checked options to reports and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import click

from auditor.capture import Capture
from auditor.cli import EXIT_FINDINGS, EXIT_USAGE, settings_from
from auditor.config import Settings
from auditor.errors import AuditError
from auditor.evidence import Run, Status
from auditor.hosted import commands_stopped
from auditor.output import keep, prepare_folder
from auditor.progress import Display
from auditor.publish import Publisher
from auditor.ranks import is_follower
from auditor.result import Audit
from auditor.session import Outcome, Request, conduct
from auditor.untrusted import neutral, one_line

EXIT_SCRIPT_FAILED = 3
EXIT_NOTHING = 5
TAIL_LINES = 20

NO_LOOP = """no training step was seen: there is nothing to audit. A file without a loop can say what to train:
    def audit_target():
        return auditor.Target(model=..., loss=..., train=...)"""
ELSEWHERE = """training happens in another process ({place}), which is not followed, so there is nothing to audit.
Let it happen in the process that is started: ask the script for a single process or device (--nproc 1, devices=1,
world_size=1), or call its training function directly instead of through multiprocessing or spawn."""


@dataclass(frozen=True)
class RunOptions:
    """The options of `audit run` as click read them."""

    target: str
    args: tuple[str, ...]
    module: bool
    steps: int | None
    look_on: int | None
    max_time: float | None
    batch_memory: int | None
    device: Literal["auto", "cpu", "cuda"]
    seed: int | None
    no_experiments: bool
    no_trials: bool
    side_effects: Literal["divert", "allow"]
    config: Path | None
    select: tuple[str, ...]
    ignore: tuple[str, ...]
    fail_on: str | None
    format_: str
    outputs: tuple[str, ...]
    color: str
    show_output: bool
    quiet: bool
    ci: str = "none"
    baseline: Path | None = None
    no_samples: bool = False


# Options of `audit run` that are easily put behind the script's name by mistake.
OWN_OPTIONS = frozenset(
    {
        "-o",
        "--output",
        "--batch-memory",
        "--steps",
        "--look-on",
        "--max-time",
        "--select",
        "--ignore",
        "--fail-on",
        "--format",
        "--no-experiments",
        "--no-trials",
        "--no-samples",
        "--side-effects",
    }
)


@dataclass(frozen=True)
class Conducted:
    """An audit that was run and kept. `follows`: this process is one of several ranks, and not the first."""

    outcome: Outcome
    settings: Settings
    folder: Path | None
    follows: bool
    display: Display
    problems: tuple[str, ...]


def run_command(options: RunOptions, *, command: Sequence[str] | None = None) -> int:
    """Returns the exit code. Raises AuditError for whatever can be refused before anything runs."""
    publisher = Publisher.of(asdict(options))
    with commands_stopped(publisher.hosted, machine=publisher.machine):
        done = conducted(options, command=command)
        audit, fail_on = done.outcome.audit, done.settings.fail_on
        if done.follows:  # the audit of rank 0 makes the report
            return EXIT_SCRIPT_FAILED if audit.run.status is Status.SCRIPT_FAILED else 0
        publisher.show(audit, fail_on)
        tell_kept(done.folder, done.problems, done.display)
    for problem in publisher.post(audit, fail_on):
        _say(problem)
    problems = publisher.write(audit, fail_on)
    for problem in problems:
        _say(problem)
    return EXIT_USAGE if problems else exit_code(done.outcome, done.settings)


def conducted(options: RunOptions, *, command: Sequence[str] | None = None) -> Conducted:
    """Run the audit, keep it in .audit/ and say why the script ended early. Raises AuditError before anything runs."""
    follows = is_follower(os.environ)
    request = Request(
        target=options.target,
        args=options.args,
        module=options.module,
        experiments=not options.no_experiments,
        side_effects=options.side_effects,
        device=options.device,
        seed=options.seed,
        samples=not options.no_samples,
        stdout_to_stderr=options.format_ != "text",
    )
    here = _here()
    request.locate()
    settings = settings_from(asdict(options), _start(options))
    folder = None if follows else prepare_folder(here)
    capture = None if options.show_output else _capture(folder)
    display = Display(quiet=options.quiet, live=_live(options), capture=capture)
    try:
        outcome = conduct(request, settings, command=command, capture=capture, listen=display)
    finally:
        display.clear()
        if capture is not None:
            capture.close()
    problems = keep(outcome.audit, folder) if folder is not None else []  # first of all: what follows may fail
    _tell_ending(outcome.audit, settings, capture, folder)
    return Conducted(outcome, settings, folder, follows, display, tuple(problems))


def _here() -> Path:
    try:
        return Path.cwd()
    except OSError:
        raise AuditError("this folder has been deleted; start the audit from another one") from None


def _start(options: RunOptions) -> Path:
    """The folder from which the configuration is looked for."""
    path = Path(options.target)
    if options.module:
        return Path.cwd()
    return path if path.is_dir() else path.parent


def _live(options: RunOptions) -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not options.show_output


def _capture(folder: Path | None) -> Capture:
    try:
        return Capture(folder / "output.log" if folder is not None else None)
    except OSError:
        return Capture(None)


def _tell_ending(audit: Audit, settings: Settings, capture: Capture | None, folder: Path | None) -> None:
    """Why the script ended, where that is not by itself; said even when quiet."""
    run = audit.run
    if run.status is Status.SCRIPT_FAILED:
        _tell_crash(run, capture, folder)
    elif run.status is Status.NOTHING_TO_AUDIT:
        _say(ELSEWHERE.format(place=run.elsewhere) if run.elsewhere else NO_LOOP)
    elif run.status is Status.TIMEOUT and not run.steps:
        if capture is not None:
            _show_tail(capture.last_lines(TAIL_LINES), folder)  # it may be waiting for an answer
        _say(
            f"the time limit of {settings.max_time:g} s passed before the first training step was seen; "
            "give it more with --max-time 10m"
        )


def _tell_crash(run: Run, capture: Capture | None, folder: Path | None) -> None:
    crash = run.crash
    traceback = crash.traceback.strip("\n") if crash else ""
    printed = capture.last_lines(10 * TAIL_LINES) if capture is not None else ""
    if traceback:  # the child may have printed it as well; once is enough
        printed = printed.replace(traceback, "").rstrip()
    _show_tail("\n".join(printed.splitlines()[-TAIL_LINES:]), folder)
    if traceback and capture is not None:  # else it has been seen already
        click.echo(neutral(traceback), err=True)
    if crash is not None:
        kind = "" if crash.kind == "signal" else crash.kind
        message = f"{kind}: {crash.message}".strip(": ").splitlines()[0]
        count = "1 training step" if run.steps == 1 else f"{run.steps} training steps"
        where = f" at {_shown(Path(crash.location.file))}:{crash.location.line}" if crash.location else ""
        _say(f"the script failed{where} after {count}: {one_line(message, 600)}")
        ours = [arg for arg in run.args if arg in OWN_OPTIONS]
        if crash.kind == "SystemExit" and crash.message == "2" and ours:
            _say(
                f"what follows the script's name is its own; put {' and '.join(ours)} before it if the audit was meant"
            )


def _show_tail(tail: str, folder: Path | None) -> None:
    if tail.strip():
        place = f" (all of it: {_shown(folder / 'output.log')})" if folder is not None else ""
        _say(f"the script printed last{place}:")
        click.echo(neutral(tail), err=True)


def tell_kept(folder: Path | None, problems: Sequence[str], display: Display) -> None:
    """Where the whole report is, or why there is none."""
    for problem in problems:
        _say(problem)
    if folder is None:
        display.message("the folder .audit cannot be written here, so nothing is kept of this audit")
    elif (folder / "report.html").exists():
        display.message(f"the whole report: {_shown(folder / 'report.html')}")


def exit_code(outcome: Outcome, settings: Settings) -> int:
    """The exit code of `audit run`; for a timeout, whatever was seen until then decides."""
    run = outcome.audit.run
    if run.status is Status.INTERRUPTED:
        return 128 + (outcome.signal or 2)
    if run.status is Status.SCRIPT_FAILED:
        return EXIT_SCRIPT_FAILED
    if run.status is Status.NOTHING_TO_AUDIT or (run.status is Status.TIMEOUT and not run.steps):
        return EXIT_NOTHING
    return EXIT_FINDINGS if outcome.audit.fails(settings.fail_on) else 0


def _say(text: str) -> None:
    click.echo(f"audit: {neutral(text)}", err=True)


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
