"""What commands print and ask for: results to stdout, words about them to stderr."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from doorward.errors import UsageError

MAX_LINE = 4096
PIPE_COLUMNS = 200

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file; default: ./doorward.toml if it is there.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, for a program to read.")]


def print_json(content: Any) -> None:
    """One JSON document."""
    print(json.dumps(content, indent=2, ensure_ascii=False), flush=True)


def console() -> Console:
    """For people. What is printed may hold foreign text, so markup is off. A pipe has no width, and 80 columns break words."""
    made = Console(highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = max(made.width, PIPE_COLUMNS)
    return made


def ask_password(prompt: str) -> str:
    """Ask on the terminal, without an echo, and not on stdout.

    Raises:
        UsageError: there is no terminal.
    """
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask for the password; pipe it in and add --password-stdin")
    answer: str = typer.prompt(prompt, hide_input=True, err=True)
    return answer


def password_from_stdin() -> str:
    """The first line of stdin.

    Raises:
        UsageError: there is none.
    """
    line = sys.stdin.readline(MAX_LINE).rstrip("\r\n")
    if not line:
        raise UsageError("--password-stdin: the first line of stdin is empty; pipe the password in")
    return line
