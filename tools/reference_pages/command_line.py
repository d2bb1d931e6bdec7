"""The command line, from its commands."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import typer

from doorward.cli.app import build
from doorward.config import ENV_PREFIX
from reference_pages.markdown import MADE, default_text, plain, table


def page() -> str:
    commands = "\n\n".join(
        _command_page(path, command) for path, command in _commands("doorward", typer.main.get_command(build()))
    )
    return f"""{MADE}

# Command line

`doorward COMMAND --help` says what is said here. Settings come from `doorward.toml` and from `{ENV_PREFIX}*` variables:
[settings](settings.md). Results go to stdout, words about them to stderr.

Exit codes of every command:

| code | meaning |
| --- | --- |
| 0 | fine |
| 1 | trouble, told in one line on stderr; what `doctor` finds is on stdout |
| 2 | the settings or the call cannot work; the line names the setting |

{commands}
"""


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """All of them that do something, by their whole name; a group comes before its own."""
    for name, member in getattr(command, "commands", {}).items():
        yield f"{path} {name}", member
        yield from _commands(f"{path} {name}", member)


def _command_page(path: str, command: Any) -> str:
    text = inspect.cleandoc(command.help or "")
    rows = [_option(option) for option in command.params if not option.hidden]
    options = f"\n\n{table(['option', 'default', 'meaning'], iter(rows))}" if rows else ""
    return f"{'##' if path.count(' ') == 1 else '###'} {path}\n\n{text}{options}"


def _option(option: Any) -> Sequence[str]:
    """An argument is called as the usage line calls it."""
    is_argument = option.param_type_name == "argument"
    is_flag = not is_argument and option.is_flag
    default = "required" if option.required else "-" if is_flag else default_text(option.default)
    names = [option.name.upper()] if is_argument else option.opts
    return [", ".join(f"`{name}`" for name in names), default, plain(option.help or "")]
