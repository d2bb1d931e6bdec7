"""What the pages tell people to type can be typed: Python compiles, TOML loads, commands and variables exist."""

from __future__ import annotations

import ast
import builtins
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
from tests.docs.pages import ROOT, Snippet, read, snippets

from doorward import Settings
from doorward.cli.app import build
from doorward.config import child_environment

COMMANDS = typer.main.get_command(build())
VARIABLES = {"DOORWARD_CONFIG", *(f"DOORWARD_{key.upper().replace('.', '__')}" for key, _, _ in Settings().described())}
TARGETS = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
PROXIES = [ROOT / "deploy" / name for name in ("nginx", "envoy", "caddy")]
EXAMPLE_LANGUAGES = ("python", "nginx", "yaml", "caddyfile")
_BETWEEN_COMMANDS = re.compile(r"[()&|;<>\n]")


@pytest.mark.parametrize("snippet", snippets("python"), ids=str)
def test_python_compiles(snippet: Snippet) -> None:
    compile(snippet.text, str(snippet), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("snippet", snippets("python"), ids=str)
def test_python_imports_only_what_is_there(snippet: Snippet) -> None:
    for node in ast.walk(ast.parse(snippet.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "doorward":
            module = builtins.__import__(node.module or "", fromlist=[alias.name for alias in node.names])
            assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.mark.parametrize("snippet", [one for one in snippets(*EXAMPLE_LANGUAGES) if one.example], ids=str)
def test_an_example_is_the_file_that_runs(snippet: Snippet) -> None:
    assert snippet.example is not None
    assert snippet.text == snippet.example.read_text(encoding="utf-8")


def test_every_example_is_shown_on_a_page() -> None:
    shown = {snippet.example for snippet in snippets(*EXAMPLE_LANGUAGES)}
    examples = [*(ROOT / "examples").rglob("*.py"), *(path for proxy in PROXIES for path in proxy.iterdir())]
    assert sorted(path.name for path in examples if path not in shown) == []


@pytest.mark.parametrize("snippet", snippets("toml"), ids=str)
def test_toml_loads(snippet: Snippet, tmp_path: Path) -> None:
    file = tmp_path / "doorward.toml"
    file.write_text(snippet.text, encoding="utf-8")
    changed = [key for key, _, was_set in Settings.load(file).described() if was_set]
    assert changed or "[[routes]]" in snippet.text


@pytest.mark.parametrize("snippet", snippets("json"), ids=str)
def test_json_parses(snippet: Snippet) -> None:
    decoder, text = json.JSONDecoder(), snippet.text.strip()
    while text:
        _, end = decoder.raw_decode(text)
        text = text[end:].lstrip()


@pytest.mark.parametrize("snippet", snippets("sh"), ids=str)
def test_shell_parses(snippet: Snippet) -> None:
    shell = shutil.which("bash")
    assert shell is not None
    checked = subprocess.run([shell, "-n"], input=snippet.text, text=True, capture_output=True, timeout=10, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("snippet", snippets("sh"), ids=str)
def test_commands_exist(snippet: Snippet) -> None:
    for piece in _BETWEEN_COMMANDS.split(snippet.text):
        if piece.strip().startswith("doorward "):
            assert _is_a_command(shlex.split(piece, comments=True)[1:]), piece
    for target in re.findall(r"^\s*make ([a-z]+)", snippet.text, re.MULTILINE):
        assert target in TARGETS


def test_variables_exist() -> None:
    named = {name for snippet in snippets("sh") for name in re.findall(r"\bDOORWARD_[A-Z_]+", snippet.text)}
    assert named
    assert sorted(named - VARIABLES) == []


@pytest.mark.parametrize("page", sorted({snippet.page for snippet in snippets("sh")}), ids=lambda page: page.stem)
def test_a_page_that_sets_variables_sets_values_that_work(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(snippet.text for snippet in snippets("sh") if snippet.page == page)
    given = re.findall(r"^\s*(?:export )?(DOORWARD_[A-Z_]+)=(\S+)", text, re.MULTILINE)
    for name in child_environment({}):
        monkeypatch.delenv(name) if name.startswith("DOORWARD_") else None
    for name, value in given:
        monkeypatch.setenv(name, shlex.split(value)[0])
    settings = Settings()
    assert len([key for key, _, was_set in settings.described() if was_set]) == len({name for name, _ in given})


def _is_a_command(words: list[str]) -> bool:
    """Do the command, its subcommand and each of its options exist?"""
    command: Any = COMMANDS
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        command, words = command.commands.get(words[0]), words[1:]
        if command is None:
            return False
    options = {name for parameter in command.params for name in parameter.opts}
    return all(word.partition("=")[0] in options for word in words if word.startswith("-") and word != "--help")
