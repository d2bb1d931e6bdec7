from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from doorward.config import Settings
from doorward.core.verdict import Action, Cause, Code

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "make-reference"
REFERENCE = ROOT / "docs" / "reference"


def run(tool: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(tool), *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def tool_in(folder: Path) -> Path:
    tools = shutil.copytree(TOOL.parent, folder / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    return tools / TOOL.name


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def cells(text: str) -> list[list[str]]:
    """The rows of all tables of a page."""
    return [
        [cell.strip() for cell in line.strip("|").split(" |")] for line in text.splitlines() if line.startswith("| ")
    ]


def test_the_pages_are_what_the_code_says() -> None:
    checked = run(TOOL, "--check")

    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The tool in a tree of its own, with pages just made."""
    tool = tool_in(tmp_path)
    assert run(tool).returncode == 0
    return tool


@pytest.mark.parametrize("name", ["close-codes.md", "settings.md", "metrics.md", "errors.md", "cli.md"])
def test_a_page_that_is_stale_or_missing_is_named(name: str, copy: Path, tmp_path: Path) -> None:
    made = tmp_path / "docs" / "reference" / name
    made.write_text(made.read_text(encoding="utf-8").replace("1", "2", 1), encoding="utf-8")
    stale = run(copy, "--check")
    made.unlink()
    missing = run(copy, "--check")

    for checked in (stale, missing):
        assert checked.returncode == 1
        assert name in checked.stderr
    assert not made.exists()


def test_an_unknown_argument_writes_nothing(tmp_path: Path) -> None:
    assert run(tool_in(tmp_path), "--chekc").returncode == 2
    assert not (tmp_path / "docs").exists()


def test_every_setting_is_on_the_page_with_its_meaning() -> None:
    rows = {row[0].strip("`"): row for row in cells(page("settings.md")) if len(row) == 4}

    for key, _, _ in Settings().described():
        assert key in rows
    assert [key for key, row in rows.items() if not row[3]] == []


def test_every_word_a_client_may_be_told_is_on_the_page() -> None:
    words = {cell.strip("`") for row in cells(page("close-codes.md")) for cell in row}

    assert {*Code, *Cause, *Action} <= words
