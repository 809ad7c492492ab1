"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])


class Duration(click.ParamType[Any]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from auditor.config import seconds

        try:
            length = seconds(value)
        except ValueError as why:
            self.fail(str(why), param, ctx)
        if not isinstance(length, float) or length <= 0:
            self.fail(f"{value!r} is not longer than 0 s", param, ctx)
        return length


def selection(command: _F) -> _F:
    """Options that say what to judge by."""
    for option in (
        click.option("--config", type=click.Path(path_type=Path), envvar="AUDIT_CONFIG", help="Configuration file."),
        click.option(
            "--ignore", multiple=True, envvar="AUDIT_IGNORE", metavar="RULES", help="Rules to waive, like --select."
        ),
        click.option(
            "--select",
            multiple=True,
            envvar="AUDIT_SELECT",
            metavar="RULES",
            help="Rules to judge by: names, codes or code prefixes, separated by commas.",
        ),
    ):
        command = option(command)
    return command


def running(command: _F) -> _F:
    """Options that say how a script is run."""
    for option in (
        click.option("-m", "--module", is_flag=True, help="TARGET is a module, as in python -m."),
        click.option(
            "--side-effects",
            type=click.Choice(["divert", "allow"]),
            default="divert",
            envvar="AUDIT_SIDE_EFFECTS",
            show_default=True,
            help="What the script writes goes to scratch, and trackers stay offline; or all happens for real.",
        ),
        click.option("--no-experiments", is_flag=True, help="Observe only."),
        click.option("--no-trials", is_flag=True, help="Do not try the fixes of what is found."),
        click.option(
            "--no-samples",
            is_flag=True,
            envvar="AUDIT_NO_SAMPLES",
            help="No picture, value, label or group name of a sample in any report: for private data.",
        ),
        click.option("--seed", type=int, envvar="AUDIT_SEED", help="Seed the random number generators first."),
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "cuda"]),
            default="auto",
            envvar="AUDIT_DEVICE",
            help="For files without a loop; a script decides for itself.",
        ),
        click.option(
            "--batch-memory",
            type=click.IntRange(min=1),
            metavar="MB",
            envvar="AUDIT_BATCH_MEMORY",
            help="Memory for batches that are kept for replays.  [default: 256]",
        ),
        click.option(
            "--max-time",
            type=Duration(),
            envvar="AUDIT_MAX_TIME",
            help="Limit of the whole audit: seconds, or 90s, 5m, 1h.  [default: 120]",
        ),
        click.option(
            "--look-on",
            type=click.IntRange(min=0),
            metavar="N",
            envvar="AUDIT_LOOK_ON",
            help="Steps after those, for what comes late.  [default: 440]",
        ),
        click.option(
            "--steps",
            type=click.IntRange(min=1),
            envvar="AUDIT_STEPS",
            help="Optimizer steps to observe.  [default: 60]",
        ),
    ):
        command = option(command)
    return command


def watching(command: _F) -> _F:
    """Options that say what is seen of a running audit."""
    for option in (
        click.option("-q", "--quiet", is_flag=True, help="No progress and no hints."),
        click.option("--show-output", is_flag=True, help="Show what the script prints while it runs."),
    ):
        command = option(command)
    return command


def gate(command: _F) -> _F:
    """Options that say what becomes of findings."""
    for option in (
        click.option(
            "--ci",
            type=click.Choice(["auto", "none"]),
            default="auto",
            show_default=True,
            envvar="AUDIT_CI",
            help="In a workflow of GitHub's, also annotate the lines and write the summary of the job; or not.",
        ),
        click.option(
            "--fail-on",
            type=click.Choice(["error", "warning", "note", "never"]),
            envvar="AUDIT_FAIL_ON",
            help="Least severe finding that makes the exit code 1.  [default: error]",
        ),
    ):
        command = option(command)
    return command


def reporting(command: _F) -> _F:
    """Options that say where the report goes."""
    for option in (
        click.option(
            "--baseline",
            type=click.Path(path_type=Path),
            metavar="OLD.json",
            envvar="AUDIT_BASELINE",
            help="A saved audit; text, Markdown and SARIF mark what is new since, or fixed. The exit code stays.",
        ),
        click.option(
            "--color",
            type=click.Choice(["auto", "always", "never"]),
            default="auto",
            envvar="AUDIT_COLOR",
            help="Colours.",
        ),
        click.option(
            "-o",
            "--output",
            "outputs",
            multiple=True,
            metavar="FILE",
            help="Also write FILE: .html, .md, .json, .sarif, .xml (JUnit) or .txt, or FORMAT:FILE. Repeatable.",
        ),
        click.option(
            "--format",
            "format_",
            default="text",
            show_default=True,
            envvar="AUDIT_FORMAT",
            metavar="FORMAT",
            help="Standard output: text, json, markdown, html, sarif, junit, github or gitlab.",
        ),
    ):
        command = option(command)
    return command
