"""Doors that are forked from a process that has loaded them: each ends as a process of its own does, and none is left."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

import doorward
from doorward.config import child_environment
from doorward.drill import warm as doors
from doorward.drill.door_process import DoorProcess, DoorTrouble
from doorward.drill.warm import Order, WarmProcess, started, warmed_up
from doorward.testing import eventually

SETTINGS = {"auth.url": "http://127.0.0.1:9", "auth.service_secret": "s" * 32}


@pytest_asyncio.fixture
async def warm(tmp_path: Path) -> AsyncIterator[Path]:
    path = tmp_path / "doors"
    async with warmed_up(path, child_environment({})) as ready:
        assert ready
        yield path


def order(folder: Path, *arguments: str, settings: Mapping[str, str] | None = None) -> Order:
    return Order(arguments, str(folder), child_environment(dict(settings or {})), str(folder / "door.log"))


async def serving(warm: Path, folder: Path) -> WarmProcess:
    values = {**SETTINGS, "serve.port": "0", "serve.drain_delay_seconds": "0", "data_dir": str(folder / "data")}
    door = await started(warm, order(folder, "serve", settings=values))
    async with asyncio.timeout(30):
        assert b"doorward serve ready" in await door.stdout.readline()
    return door


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_each_is_the_command_itself(warm: Path, tmp_path: Path) -> None:
    for _ in range(2):
        told = await started(warm, order(tmp_path, "--version"))
        assert await told.stdout.read() == f"doorward {doorward.__version__}\n".encode()
        assert await told.wait() == 0
    wrong = await started(warm, order(tmp_path, "serve", settings={"serve.port": "many"}))
    assert await wrong.wait() == 2
    assert b"serve.port" in (tmp_path / "door.log").read_bytes()


async def test_a_door_drains_and_another_is_killed(warm: Path, tmp_path: Path) -> None:
    ends = {signal.SIGTERM: 0, signal.SIGKILL: -signal.SIGKILL}
    doors = []
    for number in ends:
        folder = tmp_path / number.name
        folder.mkdir()
        doors.append(await serving(warm, folder))
    assert len({os.getpid(), *(door.pid for door in doors)}) == 3
    for door, (number, code) in zip(doors, ends.items(), strict=True):
        os.kill(door.pid, number)
        async with asyncio.timeout(10):
            assert await door.wait() == code


async def test_to_hang_up_is_to_kill_it(warm: Path, tmp_path: Path) -> None:
    door = await serving(warm, tmp_path)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(warm))
        connection.sendall(b'{"no order": true}\n')
        assert connection.recv(100) == b"", "what is no order gets no door"
    door._life.cancel()
    await eventually(lambda: not lives(door.pid), within_seconds=5, what="the door is gone")


async def test_all_end_with_the_one_that_forked_them(tmp_path: Path) -> None:
    path = tmp_path / "doors"
    async with warmed_up(path, child_environment({})) as ready:
        assert ready
        door = await serving(path, tmp_path)
    await eventually(lambda: not lives(door.pid), within_seconds=5, what="the door is gone")
    async with asyncio.timeout(5):
        assert await door.wait() == -signal.SIGKILL
    with pytest.raises(DoorTrouble, match="was not started"):
        await DoorProcess(tmp_path, SETTINGS, warm=path).start()


async def test_one_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "START_SECONDS", 0.2)
    path = tmp_path / "doors"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        with pytest.raises(DoorTrouble, match="was not started"):
            await DoorProcess(tmp_path, SETTINGS, warm=path).start()
