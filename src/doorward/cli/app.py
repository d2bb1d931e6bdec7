"""The command line. Every command is a function in a file of its own; errors become one line and an exit code here."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

import doorward
from doorward.cli.authd_commands import authd
from doorward.cli.check_config import check_config
from doorward.cli.doctor import doctor
from doorward.cli.ops_token import ops_token
from doorward.cli.serve import serve
from doorward.cli.token import token
from doorward.cli.up import up
from doorward.errors import ConfigError, DoorwardError, UsageError

app = typer.Typer(
    name="doorward",
    help="WebSocket authentication that never hangs, and a chat backend for AI agents that stands on it.",
    epilog="Start with `doorward up`: everything in one command, and a line to break it on purpose.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"doorward {doorward.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """WebSocket authentication that never hangs, and a chat backend for AI agents that stands on it."""


app.command()(up)
app.command()(serve)
app.add_typer(authd, name="authd")
app.command()(doctor)
app.command("check-config")(check_config)
app.command()(token)
app.command("ops-token")(ops_token)


def run() -> None:
    """Run the command line. Exit codes: 0 fine, 1 trouble, 2 the settings or the call cannot work."""
    try:
        app()
    except (ConfigError, UsageError) as error:
        _tell(error)
        sys.exit(2)
    except DoorwardError as error:
        _tell(error)
        sys.exit(1)


def _tell(error: DoorwardError) -> None:
    Console(stderr=True, highlight=False).print(f"[bold red]doorward:[/] {escape(str(error))}", soft_wrap=True)
