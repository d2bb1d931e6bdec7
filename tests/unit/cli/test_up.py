"""The auth service of `doorward up` is started again until it is there. What is started here says that it is ready, and no more."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from doorward.cli import up
from doorward.cli.up import AuthProcess
from doorward.config import Settings
from doorward.errors import ConfigError
from doorward.testing.waiting import eventually

PROGRAM = """#!/bin/sh
echo $$ >> {folder}/started
test -e {folder}/silent || echo "authd ready http://127.0.0.1:$$ pid $$"
exec sleep 600
"""
"""Its port is its process id, so that one is told from another."""

NOT_BACK = "the auth service did not start again"


class Host:
    """A machine on which starting a process goes well, or not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.ports: list[int] = []
        self.process = AuthProcess(
            Settings(data_dir=folder / "data"), "secret", "http://127.0.0.1:1", self.logs / "authd.log"
        )
        self.process.on_ready = self.ports.append

    @property
    def started(self) -> list[int]:
        return [int(pid) for pid in (self.folder / "started").read_text(encoding="ascii").split()]

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)

    def silence(self) -> None:
        (self.folder / "silent").touch()

    def speak(self) -> None:
        (self.folder / "silent").unlink()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[asyncio.Task[None]]:
        await self.process.start()
        watching = asyncio.create_task(self.process.watch())
        try:
            yield watching
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            await self.process.stop()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    program = tmp_path / "program"
    program.write_text(PROGRAM.format(folder=tmp_path), encoding="ascii")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(up, "RESTART_SECONDS", 0.05)
    return Host(tmp_path)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def told(lines: list[structlog.typing.EventDict], event: str) -> int:
    return sum(line["event"] == event for line in lines)


async def test_one_that_is_not_ready_in_time_is_killed_and_started_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture_logs() as lines:
        async with host.watched() as watching:
            host.silence()
            monkeypatch.setattr(up, "READY_SECONDS", 0.3)
            host.kill()
            await eventually(lambda: told(lines, NOT_BACK) >= 2, within_seconds=10, what="two starts have failed")
            monkeypatch.setattr(up, "READY_SECONDS", 10.0)
            host.speak()
            await eventually(lambda: len(host.ports) == 2, within_seconds=10, what="the proxy is told the new port")
            assert not watching.done()
            assert host.ports == [host.started[0], host.started[-1]]
            assert [pid for pid in host.started if is_alive(pid)] == [host.process.pid]


async def test_a_start_that_the_system_refuses_is_tried_again(host: Host) -> None:
    with capture_logs() as lines:
        async with host.watched() as watching:
            host.logs.rename(host.folder / "gone")
            host.kill()
            await eventually(lambda: told(lines, NOT_BACK) >= 2, within_seconds=10, what="two starts have failed")
            (host.folder / "gone").rename(host.logs)
            await eventually(lambda: len(host.ports) == 2, within_seconds=10, what="the proxy is told the new port")
            assert not watching.done()


async def test_a_first_start_that_fails_leaves_no_process_behind(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.silence()
    monkeypatch.setattr(up, "READY_SECONDS", 0.3)
    with pytest.raises(ConfigError, match="did not start"):
        await host.process.start()
    assert not [pid for pid in host.started if is_alive(pid)]
    await host.process.stop()


async def test_one_that_was_stopped_is_not_started_again(host: Host) -> None:
    async with host.watched() as watching:
        await host.process.stop()
        await asyncio.wait_for(watching, 5)
        assert len(host.started) == 1
