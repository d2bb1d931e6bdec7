"""The command line. Every command is a function in a file of its own; errors become one line and an exit code here."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

import doorward
from doorward.errors import ConfigError, DoorwardError, UsageError

COMMANDS = {
    "up": "doorward.cli.up:up",
    "serve": "doorward.cli.serve:serve",
    "chat": "doorward.cli.chat.command:chat",
    "authd": "doorward.cli.authd_commands:authd",
    "doctor": "doorward.cli.doctor:doctor",
    "check-config": "doorward.cli.check_config:check_config",
    "token": "doorward.cli.token:token",
    "ops-token": "doorward.cli.ops_token:ops_token",
    "drill": "doorward.cli.drill:drill",
}
"""Where each command lives. Only what is called is imported: a doctor must not wait for a database library."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"doorward {doorward.__version__}")
        raise typer.Exit


def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """WebSocket authentication that never hangs, and a chat backend for AI agents that stands on it."""


def build(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The command line with these commands."""
    app = typer.Typer(
        name="doorward",
        help="WebSocket authentication that never hangs, and a chat backend for AI agents that stands on it.",
        epilog="Start with `doorward up`: everything in one command, and a line to break it on purpose.",
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )
    app.callback()(main)
    for name in names:
        module, _, attribute = COMMANDS[name].partition(":")
        command = getattr(import_module(module), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def run() -> None:
    """Run the command line. Exit codes: 0 fine, 1 trouble, 2 the settings or the call cannot work."""
    try:
        with _nothing_to_collect():
            command_line = build(_named(sys.argv[1:]))
        command_line()
    except (ConfigError, UsageError) as error:
        _tell(error)
        sys.exit(2)
    except DoorwardError as error:
        _tell(error)
        sys.exit(1)


def _named(words: Sequence[str]) -> Iterable[str]:
    """The commands that the call is about: all of them where it names none, but for `--version`."""
    first = next((word for word in words if not word.startswith("-")), None)
    if first is not None and first in COMMANDS:
        return [first]
    return () if list(words) == ["--version"] else COMMANDS


@contextlib.contextmanager
def _nothing_to_collect() -> Iterator[None]:
    """What is imported stays: the garbage collector does not look for anything while entered, and not at that afterwards."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _tell(error: DoorwardError) -> None:
    Console(stderr=True, highlight=False).print(f"[bold red]doorward:[/] {escape(str(error))}", soft_wrap=True)
