"""The page about the command line: every command and option is there, and the examples can be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from doorward.cli.app import build

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
_BETWEEN_COMMANDS = re.compile(r"[;|&()<\n]|\$\(")


def commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    for name, member in getattr(command, "commands", {}).items():
        yield f"{path} {name}", member
        yield from commands(f"{path} {name}", member)


COMMANDS = dict(commands("doorward", typer.main.get_command(build())))
OURS = ["chat", "doctor", "check-config", "token", "authd", "authd init", "authd rotate-keys"]


def section(path: str) -> str:
    match = re.search(rf"^#+ {path}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match is not None, f"{path} is not on the page"
    return match[1]


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_is_on_the_page(path: str) -> None:
    rows = dict(re.findall(r"^\| `(--[a-z0-9-]+|[A-Z]+)` \| .*? \| (.*) \|$", section(path), re.MULTILINE))
    for option in COMMANDS[path].params:
        if getattr(option, "hidden", False):
            continue
        name = option.name.upper() if option.param_type_name == "argument" else option.opts[0]
        assert rows[name], f"{path} {name} has no meaning"


@pytest.mark.parametrize("path", [f"doorward {name}" for name in OURS])
def test_help_teaches_by_examples_that_can_be_typed(path: str) -> None:
    examples = [line.strip() for line in section(path).splitlines() if line.startswith("    ")]
    typed = [piece.strip() for line in examples for piece in _BETWEEN_COMMANDS.split(line) if "doorward " in piece]
    assert typed
    for piece in typed:
        words = shlex.split(piece[piece.index("doorward ") :].split(">")[0])
        names = [word for word in words if not word.startswith("-")]
        known = next((" ".join(names[:n]) for n in (3, 2) if " ".join(names[:n]) in COMMANDS), None)
        assert known is not None, piece
        options = {name for option in COMMANDS[known].params for name in option.opts}
        assert {word for word in words if word.startswith("-")} <= options, piece
