"""Commands that say what was probably meant."""

from __future__ import annotations

import difflib
from pathlib import Path

import click


class Commands(click.Group):
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


class RunCommand(click.Command):
    """Its arguments end at the target: everything after it is the script's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as wrong:
            close = difflib.get_close_matches(wrong.option_name, wrong.possibilities or (), n=1, cutoff=0.7)
            near = f" (did you mean {close[0]}?)" if close else ""
            message = f"no such option: {wrong.option_name}{near}; options for your script go after its name"
            raise click.UsageError(message, ctx) from None
