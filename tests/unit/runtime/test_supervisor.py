"""Background tasks: kept, logged, and stopped with a bound."""

from __future__ import annotations

import asyncio
import errno
import gc
import io
from itertools import pairwise

import pytest
import structlog
from structlog.testing import capture_logs
from tests.log_support import structlog_as
from tests.runtime_kit import virtual

from doorward.runtime.supervisor import RESTART_SECONDS, Supervisor


class FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")


@virtual
async def test_a_task_that_dies_of_a_bug_starts_again_after_a_second() -> None:
    starts: list[float] = []

    async def buggy() -> None:
        starts.append(asyncio.get_running_loop().time())
        if len(starts) < 3:
            raise ValueError("a bug")
        await asyncio.sleep(3_600)

    supervisor = Supervisor()
    with capture_logs() as logs:
        supervisor.keep("buggy", buggy)
        await asyncio.sleep(10.0)
    assert [later - earlier for earlier, later in pairwise(starts)] == pytest.approx([RESTART_SECONDS] * 2)
    assert len(logs) == 2
    assert len(supervisor) == 1
    await supervisor.aclose(seconds=1.0)
    assert len(supervisor) == 0


@virtual
async def test_a_full_disk_does_not_end_a_task() -> None:
    """structlog's own logger prints where it is called, and what the file says to that is raised there."""
    starts: list[float] = []

    async def buggy() -> None:
        starts.append(asyncio.get_running_loop().time())
        raise ValueError("a bug")

    supervisor = Supervisor()
    with structlog_as(logger_factory=structlog.PrintLoggerFactory(FullDisk())):
        supervisor.keep("buggy", buggy)
        await asyncio.sleep(3 * RESTART_SECONDS)
    assert len(starts) == 3
    await supervisor.aclose(seconds=1.0)


@virtual
async def test_a_task_that_is_done_is_done() -> None:
    async def once() -> None: ...

    supervisor = Supervisor()
    supervisor.keep("once", once)
    await asyncio.sleep(5.0)
    assert len(supervisor) == 0


@virtual
async def test_an_error_of_a_spawned_task_is_logged() -> None:
    async def fails() -> None:
        raise ValueError("a bug")

    supervisor = Supervisor()
    with capture_logs() as logs:
        supervisor.spawn(fails(), name="fails")
        await asyncio.sleep(0.1)
    assert [(log["log_level"], log["task"]) for log in logs] == [("error", "doorward:fails")]
    assert len(supervisor) == 0


@virtual
async def test_closing_cancels_what_runs_and_what_has_not_begun() -> None:
    """A coroutine that never ran would be reported as never awaited."""
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.sleep(3_600)
        finally:
            ended.append(name)

    supervisor = Supervisor()
    supervisor.spawn(work("running"), name="running")
    await asyncio.sleep(0)
    supervisor.spawn(work("not begun"), name="not begun")
    await supervisor.aclose(seconds=1.0)
    supervisor.spawn(work("too late"), name="too late")
    gc.collect()
    assert ended == ["running"]
    assert len(supervisor) == 0


@virtual
async def test_closing_is_bounded_and_names_what_does_not_stop() -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    supervisor = Supervisor()
    supervisor.spawn(stubborn(), name="stubborn")
    await asyncio.sleep(0)
    began = asyncio.get_running_loop().time()
    with capture_logs() as logs:
        await supervisor.aclose(seconds=2.0)
    assert asyncio.get_running_loop().time() - began == pytest.approx(2.0)
    assert [log["task"] for log in logs] == ["doorward:stubborn"]
    release.set()
    await asyncio.sleep(0.1)
    assert len(supervisor) == 0


@virtual
async def test_closing_nothing_takes_no_time() -> None:
    await Supervisor().aclose(seconds=1.0)
