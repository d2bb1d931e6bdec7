"""The drill against our own door, and against doors that are broken on purpose: one that cannot fail proves nothing."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tests.docs.pages import ROOT

from doorward.config import child_environment

BROKEN = Path(__file__).parent.parent / "drill" / "broken"
SECONDS = 110.0
SCHEMA = Draft202012Validator(json.loads((ROOT / "docs/reference/drill.schema.json").read_text(encoding="utf-8")))


async def drill(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "doorward", "drill", *arguments,
        env=child_environment({}), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode()


async def broken(door: str, scenario: str, tmp_path: Path) -> dict[str, Any]:
    """The findings of one scenario against a broken door."""
    report = tmp_path / "broken.json"
    command = shlex.join([sys.executable, str(BROKEN / door)])
    code, output = await drill("--only", scenario, "--door-command", command, "--json", str(report))
    assert code == 1, output
    scenarios = json.loads(report.read_text())["scenarios"]
    return {finding["rule"]: finding for each in scenarios for finding in each["findings"] if not finding["held"]}


async def test_our_own_door_holds(tmp_path: Path) -> None:
    report, page = tmp_path / "drill.json", tmp_path / "drill.html"
    code, output = await drill("--quick", "--json", str(report), "--html", str(page))
    assert code == 0, output
    result = json.loads(report.read_text())
    assert [error.message for error in SCHEMA.iter_errors(result)] == []
    assert result["held"]
    assert len(result["scenarios"]) >= 8
    assert all(each["samples"] for each in result["scenarios"])
    html = page.read_text()
    assert not re.search(r"(src|href)=[\"']https?:", html)
    assert all(each["name"] in html for each in result["scenarios"])


@pytest.mark.parametrize(
    ("door", "scenario", "rules"),
    [
        ("no_deadline.py", "two-hundred-at-once", {"decision", "in-time"}),
        ("fail_open.py", "silence/cold/*", {"proof", "verdict"}),
        ("outage_as_invalid.py", "silence/cold/*", {"verdict"}),
    ],
)
async def test_a_broken_door_is_caught_for_the_right_reason(
    door: str, scenario: str, rules: set[str], tmp_path: Path
) -> None:
    found = await broken(door, scenario, tmp_path)
    assert rules <= found.keys(), found
    if door == "outage_as_invalid.py":
        assert "an outage was told as a refusal" in found["verdict"]["text"]


async def test_an_unknown_scenario_is_an_error_that_says_where_to_look() -> None:
    code, output = await drill("--only", "no-such-thing")
    assert code == 2
    assert "--list" in output
