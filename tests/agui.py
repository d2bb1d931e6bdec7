"""AG-UI's own JavaScript client as the judge of our streams."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.integration.test_js_client import NODE

SCRIPTS = Path(__file__).parent / "js"
Run = Sequence[dict[str, Any]]

needs_agui = pytest.mark.skipif(
    (NODE is None or not (SCRIPTS / "node_modules").exists()) and not os.environ.get("CI"),
    reason="NOT RUN: it needs Node and the npm packages of tests/js (tools/install-node-packages)",
)


async def judged(*runs: Run) -> list[str | None]:
    """What AG-UI's verifier finds wrong with each run, `None` where nothing is."""
    faults: list[str | None] = await _asked("judge.mjs", runs)
    return faults


async def compacted(*runs: Run) -> list[list[dict[str, Any]]]:
    """The runs in as few events as say the same."""
    fewer: list[list[dict[str, Any]]] = await _asked("compact.mjs", runs)
    return fewer


async def _asked(script: str, runs: Sequence[Run]) -> Any:
    assert NODE is not None
    node = await asyncio.create_subprocess_exec(
        NODE, str(SCRIPTS / script), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, _ = await node.communicate(json.dumps(runs).encode())
    return json.loads(out)


def runs_of(events: Run) -> list[list[dict[str, Any]]]:
    """A thread's events, run by run."""
    runs: list[list[dict[str, Any]]] = []
    for event in events:
        if event["type"] == "RUN_STARTED":
            runs.append([])
        runs[-1].append(event)
    return runs
