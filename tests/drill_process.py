"""Runs `doorward drill` as people do, and knows how slow this machine is meanwhile."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from tests.docs.pages import ROOT

from doorward.config import child_environment

PATIENCE_SECONDS = 280.0
SCHEMA = Draft202012Validator(json.loads((ROOT / "docs/reference/drill.schema.json").read_text(encoding="utf-8")))

WORK = 800_000
"""Turns of a loop that take `WORK_SECONDS` on the machine that the budgets were set on, when it does nothing else."""
WORK_SECONDS = 0.02
LOOK_SECONDS = 0.5


async def drill(*arguments: str | Path, **variables: str) -> tuple[int, str]:
    """Exit status, and everything that was printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "doorward", "drill", *map(str, arguments),
        env=child_environment({}) | {"COLUMNS": "200"} | variables,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode()


def result_in(file: Path) -> dict[str, Any]:
    """What was written to this file; it is as the schema says."""
    result: dict[str, Any] = json.loads(file.read_text())
    assert [error.message for error in SCHEMA.iter_errors(result)] == []
    return result


class Slowness:
    """How many times longer the same work took here, on average, than on the machine that the budgets were set on."""

    def __init__(self) -> None:
        self._looks: list[float] = []

    def look(self) -> None:
        began = time.perf_counter()
        for _ in range(WORK):
            pass
        self._looks.append((time.perf_counter() - began) / WORK_SECONDS)

    @property
    def factor(self) -> float:
        """At least 1: a faster machine has no larger budget, and needs none."""
        return max(1.0, sum(self._looks) / len(self._looks))


@asynccontextmanager
async def measured_slowness() -> AsyncIterator[Slowness]:
    """Look at the machine all the while, so that what else it has to do is in the average."""
    slowness = Slowness()
    slowness.look()

    async def watch() -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            slowness.look()

    watching = asyncio.create_task(watch())
    try:
        yield slowness
    finally:
        watching.cancel()
        await asyncio.wait({watching})
