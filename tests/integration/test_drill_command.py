"""`doorward drill` as a process of its own: faults on other doors, from the command line to the page."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.drill_process import drill, result_in

from doorward.config import child_environment
from doorward.drill.peers import RIVALS
from doorward.testing import eventually


@pytest.mark.slow
async def test_faults_on_other_doors_become_a_table_a_file_and_a_page(tmp_path: Path) -> None:
    """Two faults in which no breaker of others stays open for half a minute; together every door is in them."""
    report, page = tmp_path / "drill.json", tmp_path / "drill.html"
    faults = ("wrong-json", "dns-nxdomain")
    only = [word for fault in faults for word in ("--only", f"beside/{fault}")]
    code, output = await drill("--baseline", *only, "--json", report, "--html", page)

    assert code == 0, output
    result = result_in(report)
    scenarios = {each["factors"]["fault"]: each for each in result["scenarios"]}
    assert set(scenarios) == set(faults)
    assert {"httpx", "nginx", "Envoy"} <= set(result["machine"]["versions"])
    assert result["command"].startswith("doorward drill --baseline --only beside/wrong-json")
    _has_measured(scenarios["wrong-json"], tried={"post-mortem", "post-mortem fix"})
    _has_measured(scenarios["dns-nxdomain"], tried={"nginx", "nginx 500 ms", "Envoy 500 ms"})

    table = {line.split()[0]: line for line in output.splitlines() if line.strip()}
    assert set(faults) <= set(table)
    assert not any(re.search(r"\s-(\s|$)", table[fault]) for fault in faults)
    assert "post-mortem fix" in table["fault"]
    assert "wait avoided" in table["fault"]
    html = page.read_text()
    assert all(f'id="{fault}"' in html for fault in faults)
    assert "The same faults on other doors" in html


def _has_measured(scenario: Mapping[str, Any], tried: set[str]) -> None:
    assert scenario["held"]
    assert scenario["samples"], "ours is in it"
    assert set(scenario["marks"]) == {"fault", "repair"}
    columns = {column["name"]: column for column in scenario["columns"]}
    assert set(columns) == {rival.name for rival in RIVALS}
    for name, column in columns.items():
        if name in tried:
            assert column["samples"], column
            assert set(column["marks"]) == {"fault", "repair"}
            assert set(column["wait_avoided"]) == {"half_seconds", "longest_seconds", "at_least"}
        else:
            assert (column["samples"], column["wait_avoided"]) == ([], None)
            assert column["why_not"]


async def test_a_file_that_cannot_be_written_is_an_error_before_anything_is_played(tmp_path: Path) -> None:
    code, output = await drill("--json", tmp_path / "missing" / "drill.json")

    assert code == 2
    assert "nothing was played" in " ".join(output.split())
    assert "held" not in output.split()


async def test_a_drill_that_is_told_to_end_leaves_nothing_behind(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "doorward", "drill", "--only", "silence/*",
        env=child_environment({}) | {"TMPDIR": str(tmp_path)},
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await eventually(lambda: bool(_at_home_in(tmp_path)), within_seconds=30, what="a door runs")
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 128 + signal.SIGTERM
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    await eventually(lambda: not _at_home_in(tmp_path), within_seconds=10, what="its doors have ended")
    assert os.listdir(tmp_path) == []


def _at_home_in(folder: Path) -> list[int]:
    """The processes whose working directory is in it, as that of every door of a drill is."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if Path(os.readlink(entry / "cwd")).is_relative_to(folder):
                found.append(int(entry.name))
    return found
