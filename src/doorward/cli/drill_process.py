"""The warden's drill: `doorward drill --only FAULT` in a process of its own, one at a time, within a bound."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from doorward.adapters.worker import Worker
from doorward.config import child_environment
from doorward.drill.catalogue import every_scenario
from doorward.drill.results import DrillResult, ScenarioResult
from doorward.errors import DoorwardError, LimitError

DRILL = (sys.executable, "-m", "doorward", "drill")
PLAY_SECONDS = 60.0
END_SECONDS = 5.0
FILE_SECONDS = 5.0
MAX_RULES = 5


class DrillFailed(DoorwardError):
    """The drill did not come to its end."""


class DrillProcess:
    """Plays one scenario of a fault, on a door and an auth service of its own. Nothing of the running door is touched.

    Args:
        command: the program; it gets `--only FAULT --json FILE`.
        play_seconds: bounds one play.
    """

    def __init__(self, command: Sequence[str] = DRILL, *, play_seconds: float = PLAY_SECONDS) -> None:
        self._command = command
        self._play_seconds = play_seconds
        self._playing = False
        self._scenarios = _one_of_each()

    @property
    def faults(self) -> Sequence[str]:
        return tuple(self._scenarios)

    async def play(self, fault: str) -> dict[str, Any]:
        """Play it and sum it up.

        Raises:
            LimitError: one is under way.
            DrillFailed: it did not come to its end within `play_seconds`.

        Cancellation: the process gets `END_SECONDS` to end what it started, and is killed then.
        """
        if self._playing:
            raise LimitError("a drill is under way")
        self._playing = True
        worker = Worker("doorward-drill")
        try:
            folder = await worker.run(
                partial(tempfile.TemporaryDirectory, prefix="doorward-drill-"), bound_seconds=FILE_SECONDS
            )
            try:
                file = Path(folder.name) / "result.json"
                await self._run([*self._command, "--only", self._scenarios.get(fault, fault), "--json", str(file)])
                return summary(await worker.run(partial(_read, file), bound_seconds=FILE_SECONDS))
            finally:
                await worker.run(folder.cleanup, bound_seconds=FILE_SECONDS)
        except (OSError, msgspec.MsgspecError) as error:  # TimeoutError is an OSError
            raise DrillFailed(f"the drill of {fault} did not come to its end: {type(error).__name__}") from error
        finally:
            worker.stop_nowait()
            self._playing = False

    async def _run(self, command: Sequence[str]) -> None:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=child_environment({}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(self._play_seconds):
                await process.wait()
        finally:
            await _ended(process)


def _one_of_each() -> dict[str, str]:
    """For each fault, the scenario that stands for it: the one that `--quick` plays, else the first. Crowds take too long."""
    light = sorted((each for each in every_scenario() if each.weight == 1), key=lambda each: not each.quick)
    chosen: dict[str, str] = {}
    for each in light:
        chosen.setdefault(each.name.partition("/")[0], each.name)
    return chosen


def summary(result: DrillResult) -> dict[str, Any]:
    """What the warden tells."""
    return {
        "held": result.held,
        "seconds": result.seconds,
        "scenarios": [_scenario(each) for each in result.scenarios],
    }


def _scenario(result: ScenarioResult) -> dict[str, Any]:
    broken = [f"{finding.rule}: {finding.text}" for finding in result.findings if not finding.held]
    return {
        "name": result.name,
        "title": result.title,
        "held": result.held,
        "handshakes": len(result.samples),
        "slowest_ms": result.slowest_ms,
        "overrun_ms": result.overrun_ms,
        "recovery_seconds": result.recovery_seconds,
        "broken": broken[:MAX_RULES],
    }


def _read(file: Path) -> DrillResult:
    return msgspec.json.decode(file.read_bytes(), type=DrillResult)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """SIGTERM lets it end its doors; SIGKILL what does not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), END_SECONDS)
