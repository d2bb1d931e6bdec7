"""The drill against our own door, and against doors that are broken on purpose: one that cannot fail proves nothing."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.drill_process import drill, measured_slowness, result_in

BROKEN = Path(__file__).parent.parent / "drill" / "broken"
QUICK_SECONDS = 60.0
"""On a machine that is as fast as the one that this was set on, and has nothing else to do."""


async def broken(door: str, scenario: str, tmp_path: Path) -> dict[str, Any]:
    """The findings of one scenario against a broken door."""
    report = tmp_path / "broken.json"
    command = shlex.join([sys.executable, str(BROKEN / door)])
    code, output = await drill("--only", scenario, "--door-command", command, "--json", str(report))
    assert code == 1, output
    scenarios = json.loads(report.read_text())["scenarios"]
    return {finding["rule"]: finding for each in scenarios for finding in each["findings"] if not finding["held"]}


async def test_our_own_door_holds_and_the_quick_drill_is_quick(tmp_path: Path) -> None:
    report, page = tmp_path / "drill.json", tmp_path / "drill.html"
    async with measured_slowness() as machine:
        code, output = await drill("--quick", "--json", report, "--html", page)
    assert code == 0, output
    result = result_in(report)
    assert result["held"]
    assert len(result["scenarios"]) >= 8
    assert all(each["samples"] and each["seconds"] > 0 for each in result["scenarios"])
    assert max(each["seconds"] for each in result["scenarios"]) <= result["seconds"]
    assert result["seconds"] <= QUICK_SECONDS * machine.factor, output
    html = page.read_text()
    assert all(each["name"] in html for each in result["scenarios"])


@pytest.mark.parametrize(
    ("door", "scenario", "rules"),
    [
        ("no_deadline.py", "two-hundred-at-once", {"decision", "in-time"}),
        ("fail_open.py", "silence/cold/*", {"proof", "verdict"}),
        ("outage_as_invalid.py", "silence/cold/*", {"verdict"}),
        ("leaks_sockets.py", "big-cookie", {"leaks: sockets", "leaks: admitted sockets", "leaks: open files"}),
        ("advice_in_step.py", "reconnect-crowd", {"storm: spread out"}),
    ],
)
async def test_a_broken_door_is_caught_for_the_right_reason(
    door: str, scenario: str, rules: set[str], tmp_path: Path
) -> None:
    found = await broken(door, scenario, tmp_path)
    assert rules <= found.keys(), found
    assert "proof" in rules or "proof" not in found
    if door == "outage_as_invalid.py":
        assert "an outage was told as a refusal" in found["verdict"]["text"]
