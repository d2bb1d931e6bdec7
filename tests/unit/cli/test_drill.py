"""`doorward drill` without playing anything: comparing, listing, and calls that cannot work."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.drill_support import BROKEN, HELD, a_drill, crowd, own
from typer.testing import CliRunner, Result

from doorward.cli.app import build
from doorward.drill.results import Outcome, ScenarioResult
from doorward.errors import UsageError

APP = build(["drill"])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it is called, with two results that have nothing in common."""
    monkeypatch.chdir(tmp_path)
    written("first.json", quick("silence"), quick("drip"))
    written("other.json", quick("refused"))
    return tmp_path


def written(name: str, *scenarios: ScenarioResult) -> str:
    Path(name).write_bytes(msgspec.json.encode(a_drill(*scenarios)))
    return name


def quick(name: str, seconds: float = 0.5) -> ScenarioResult:
    return own(name, "crowds", HELD, samples=crowd(Outcome.ALLOW, seconds))


def called(*arguments: str) -> Result:
    return CliRunner().invoke(APP, ["drill", *arguments])


def test_a_drill_is_as_good_as_itself() -> None:
    result = called("--compare", "first.json", "first.json")

    assert result.exit_code == 0
    assert "no measure is more than 2 times slower" in result.output


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ([quick("silence", 1.9), quick("drip")], "2 of 4 are worse"),
        ([quick("silence")], "in the first file only"),
        ([quick("silence"), own("drip", "crowds", HELD, BROKEN, samples=crowd(Outcome.ALLOW, 0.5))], "broken: in-time"),
    ],
)
def test_a_drill_that_is_worse_is_told_by_the_exit_status(second: list[ScenarioResult], words: str) -> None:
    result = called("--compare", "first.json", written("second.json", *second))

    assert result.exit_code == 1
    assert words in result.output


def test_how_much_slower_it_may_be_is_a_matter_of_taste() -> None:
    slower = written("slower.json", quick("silence", 1.9), quick("drip"))

    assert called("--compare", "first.json", slower, "--max-ratio", "4").exit_code == 0


def test_the_list_is_printed_and_nothing_is_played() -> None:
    result = called("--list")

    assert result.exit_code == 0
    assert "beside/silence" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--compare first.json other.json", "have no scenario in common"),
        ("--compare first.json absent.json", "absent.json is no result of a drill"),
        ("--compare first.json first.json --quick", "--compare plays nothing; leave out --quick"),
        ("--json missing/drill.json", "missing/drill.json cannot be written"),
        ("--quick --html .", "cannot be written"),
        ("--json drill --html drill", "named twice"),
        ("--only no-such-thing", "--list"),
        ("--only beside/silence", "add --baseline"),
        ("--baseline --only beside/locusts", "no fault on other doors is called 'beside/locusts'"),
        ("--baseline --only key-rotation", "no fault that other doors are measured in is called key-rotation"),
        ("--target ws://127.0.0.1:1/ws", "--target needs --auth-upstream"),
        ("--target ws://127.0.0.1:1/ws --jobs 0", "--jobs does not go with --target"),
        ("--deadline 2", "only with --target: --deadline"),
        ("--target ws://h/ws --auth-upstream http://h --token-file absent", "absent cannot be read"),
    ],
)
def test_a_call_that_cannot_work_says_why_and_leaves_nothing_behind(arguments: str, words: str, folder: Path) -> None:
    result = called(*arguments.split())

    assert isinstance(result.exception, UsageError)
    assert words in str(result.exception)
    assert sorted(path.name for path in folder.iterdir()) == ["first.json", "other.json"]
