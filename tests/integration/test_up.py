"""`doorward up` as a process: the auth service may die and come back elsewhere, and nobody has to know."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.cli_support import doorward, environment

START_SECONDS = 40.0
STOP_SECONDS = 20.0
RESTART_SECONDS = 30.0
"""Three seconds of waiting, the start of a process, and the canary."""


@dataclass
class Up:
    process: asyncio.subprocess.Process
    url: str
    auth_pid: int
    text: str
    http: aiohttp.ClientSession

    async def state(self) -> dict[str, Any]:
        async with self.http.get(f"{self.url}/ops/api/state") as answer:
            assert answer.status == 200
            state: dict[str, Any] = await answer.json()
            return state

    async def is_well(self) -> bool:
        state = await self.state()
        return not state["in_outage"] and state["services"][0]["keyset_age_seconds"] is not None

    async def answers(self, address: str) -> bool:
        """Does the auth service answer behind this address?"""
        try:
            async with self.http.get(f"{address}/auth/health") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def silent(self, address: str) -> bool:
        return not await self.answers(address)


async def polled(condition: Callable[[], Awaitable[bool]], within_seconds: float) -> None:
    async with asyncio.timeout(within_seconds):
        while not await condition():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def up(folder: Path, auth_port: int, *options: str) -> AsyncIterator[Up]:
    """In a process group of its own, as a shell starts it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "doorward", "up", "--port", "0", "--auth-port", str(auth_port), *options,
        cwd=folder,
        env=environment({}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        process_group=0,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        said = b""
        async with asyncio.timeout(START_SECONDS):
            while b"serve ready" not in said:
                line = await process.stdout.readline()
                assert line, said.decode()
                said += line
        text = said.decode()
        url, pid = re.search(r"ready (http://\S+) pid", text), re.search(r"kill -STOP (\d+)", text)
        assert url
        assert pid
        async with aiohttp.ClientSession() as http:
            yield Up(process, url[1], int(pid[1]), text, http)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(process.communicate(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.communicate()


async def test_an_auth_service_that_died_comes_back_behind_the_same_address(tmp_path: Path) -> None:
    """It listens on another port then, and the proxy leads there."""
    async with up(tmp_path, auth_port := free_port()) as running:
        address = f"http://127.0.0.1:{auth_port}"
        assert await running.answers(address)
        os.kill(running.auth_pid, signal.SIGKILL)
        await polled(lambda: running.silent(address), 5)
        await polled(lambda: running.answers(address), RESTART_SECONDS)
        await polled(running.is_well, 10)
        async with running.http.get(f"{running.url}/api/config") as answer:
            freeze = re.fullmatch(r"kill -STOP (\d+)", (await answer.json())["fault_hint"])
        assert freeze is not None
        assert int(freeze[1]) != running.auth_pid
        os.kill(int(freeze[1]), 0)  # it is there


async def test_it_can_be_started_again_at_once_and_remembers_its_keys(tmp_path: Path) -> None:
    auth_port, links = free_port(), set()
    for _ in range(2):
        async with up(tmp_path, auth_port) as running:
            await polled(running.is_well, 10)
            links |= set(re.findall(r"/ops#change=(\S+)", running.text))
    assert len(links) == 2
    assert len(list((tmp_path / ".doorward").glob("keyset-*.json"))) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_to_all_of_its_processes_ends_it_without_starting_anything_again(
    number: signal.Signals, tmp_path: Path
) -> None:
    async with up(tmp_path, free_port()) as running:
        os.killpg(running.process.pid, number)
        rest, _ = await asyncio.wait_for(running.process.communicate(), STOP_SECONDS)
    assert running.process.returncode == 0
    assert b"another process" not in rest
    assert b"the auth service ended" not in (tmp_path / ".doorward" / "doorward.log").read_bytes()


async def test_what_it_prints_for_diagnosis_works_while_it_runs(tmp_path: Path) -> None:
    async with up(tmp_path, free_port()) as running:
        command = re.search(r"doorward (doctor --config \S+)", running.text)
        assert command is not None
        second = await doorward("up", "--port", running.url.rpartition(":")[2], cwd=tmp_path)
        assert (second.code, second.out) == (2, ""), "it does not start, and takes nothing away"
        well = await doorward(*command[1].split(), cwd=tmp_path)
        assert well.code == 0, well.out
        assert f"The door at {running.url.removeprefix('http://')}" in " ".join(well.out.split())
        os.kill(running.auth_pid, signal.SIGSTOP)
        frozen = await doorward(*command[1].split(), cwd=tmp_path)
        assert frozen.code == 1
        assert "accepts connections and does not answer" in frozen.out
    assert not (tmp_path / ".doorward" / "doctor.toml").exists(), "it holds the secret of this start"


async def test_the_command_line_chooses_who_answers(tmp_path: Path) -> None:
    async with up(tmp_path, free_port(), "--model", "test") as running:
        assert "the model test answers, through pydantic-ai" in running.text


async def test_what_keeps_it_from_starting_is_told_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        for options, setting, words in (
            (("--port", "0", "--auth-port", str(port)), {}, "choose another with --auth-port"),
            (("--port", "8200", "--auth-port", "8200"), {}, "choose another with --auth-port"),
            (("--port", "0"), {"data_dir": "file/below"}, "data_dir: file/below cannot be used"),
        ):
            outcome = await doorward("up", *options, cwd=tmp_path, **setting)
            assert outcome.code == 2
            assert words in outcome.said
            assert "Traceback" not in outcome.said


async def test_an_agent_that_cannot_be_had_stops_the_start(tmp_path: Path) -> None:
    outcome = await doorward("up", "--port", "0", "--auth-port", str(free_port()), "--agent", "no:where", cwd=tmp_path)
    assert outcome.code == 2
    assert "No module named 'no'" in outcome.said
    assert not (tmp_path / ".doorward").exists()
