"""The group of commands, and what they have in common: errors are one clear line, and exit codes mean the same everywhere."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version
from typing import Any

import click

from cxguard.errors import CxguardError

EXIT_CODES = """\
\b
Exit codes:
  0  all is well
  1  a problem was found, or something could not be done; the last line says what
  2  the command was written wrongly
"""

_COMMANDS = {
    "demo": "cxguard.cli.demo",
    "worker": "cxguard.cli.worker",
    "dashboard": "cxguard.cli.dashboard",
    "orders": "cxguard.cli.orders",
    "breakers": "cxguard.cli.breakers",
    "report": "cxguard.cli.report",
    "doctor": "cxguard.cli.doctor",
    "explain": "cxguard.cli.explain",
    "migrate": "cxguard.cli.migrate",
    "migrate-store": "cxguard.cli.migrate_store",
    "reconcile": "cxguard.cli.reconcile",
    "simulate": "cxguard.cli.simulate",
    "conform": "cxguard.cli.conform",
}


class Commands(click.Group):
    """Loads a command when it is called: a worker needs no tables, and a report no server."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(_COMMANDS[cmd_name]).command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """A command that is none is told with the one that was probably meant."""
        meant = get_close_matches(args[0], _COMMANDS, n=1)
        if args[0] not in _COMMANDS and meant:
            ctx.fail(f"there is no command {args[0]!r}: write cxguard {meant[0]}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Our own errors are for people: their text, without a traceback. All others are bugs, and show where."""
        try:
            return super().invoke(ctx)
        except CxguardError as error:
            raise click.ClickException(str(error)) from error


@click.command(cls=Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("cxguard"), prog_name="cxguard")
def main() -> None:
    """A checkout that charges once, keeps the order when the gateway is down, and shows who met an error.

    \b
    Examples:
      cxguard demo
      cxguard worker shop.main:app
      cxguard orders list sqlite:///shop.db --state held
      cxguard report sqlite:///shop.db --would-have
      cxguard doctor shop.main:app
      cxguard conform http://127.0.0.1:8000 --request pay.http
    """
