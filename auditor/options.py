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


def gate(command: _F) -> _F:
    return click.option(
        "--fail-on",
        type=click.Choice(["error", "warning", "note", "never"]),
        envvar="AUDIT_FAIL_ON",
        help="Least severe finding that makes the exit code 1.  [default: error]",
    )(command)


def reporting(command: _F) -> _F:
    """Options that say where the report goes."""
    for option in (
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
            help="Also write FILE: .json, .md, .html or .txt, or FORMAT:FILE. Repeatable.",
        ),
        click.option(
            "--format",
            "format_",
            default="text",
            show_default=True,
            envvar="AUDIT_FORMAT",
            metavar="FORMAT",
            help="Standard output: text, json, markdown or html.",
        ),
    ):
        command = option(command)
    return command
