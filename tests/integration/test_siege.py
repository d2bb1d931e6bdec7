"""500 silent connections a second from 200 addresses, and honest people who want in.

`SIEGE_SECONDS=30 pytest tests/integration/test_siege.py` runs it at its full length.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

HERE = Path(__file__).parent
DURATION_SECONDS = float(os.environ.get("SIEGE_SECONDS", "6"))
SILENT_PER_SECOND = 500
HONEST_PER_SECOND = 50
HONEST_SHARE = 0.999
LIMIT = 512
PATIENCE_SECONDS = 20.0


@asynccontextmanager
async def process(script: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    started = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE / script), *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def line_of(started: asyncio.subprocess.Process) -> str:
    assert started.stdout is not None
    return (await asyncio.wait_for(started.stdout.readline(), DURATION_SECONDS + PATIENCE_SECONDS)).decode()


async def counters(port: int) -> dict[str, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /counters HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    response = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
    writer.close()
    await writer.wait_closed()
    seen: dict[str, Any] = json.loads(response.partition(b"\r\n\r\n")[2])
    return seen


async def until_nobody_is_incomplete(port: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await counters(port))["incomplete"] > 0:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)


async def shake_hands(port: int, address: str, token: str) -> bool:
    """One honest handshake, from its own address, used once."""
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with (
            asyncio.timeout(5.0),
            connect(
                f"ws://127.0.0.1:{port}/ws", local_addr=(address, 0), compression=None, additional_headers=headers
            ) as client,
        ):
            await client.send("in")
            return await client.recv() == "in"
    except Exception:  # noqa: BLE001 - whatever it was, somebody honest did not get in
        return False


async def shake_hands_for(port: int, seconds: float, token: str) -> list[bool]:
    """At an even pace, from its beginning: a delay makes one late, and not all who come after."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    tasks: list[asyncio.Task[bool]] = []
    while loop.time() < began + seconds:
        tasks.append(asyncio.create_task(shake_hands(port, f"127.0.2.{len(tasks) % 250 + 1}", token)))
        await asyncio.sleep(began + len(tasks) / HONEST_PER_SECOND - loop.time())
    return await asyncio.gather(*tasks)


@pytest.mark.parametrize(
    ("first", "share"), [pytest.param("", 1.0, id="silent"), pytest.param("GET /", 0.5, id="half-sent")]
)
async def test_honest_people_get_in(first: str, share: float) -> None:
    seconds = DURATION_SECONDS * share
    async with process("siege_door.py") as server:
        token = (await line_of(server)).strip()
        match = re.search(r"http://127\.0\.0\.1:(\d+) ", await line_of(server))
        assert match is not None
        port = int(match[1])
        async with process("siege.py", str(port), str(seconds), str(SILENT_PER_SECOND), first) as siege:
            outcomes = await shake_hands_for(port, seconds, token)
            during = await counters(port)
            besieged = json.loads(await line_of(siege))
        await until_nobody_is_incomplete(port)

    assert besieged["opened"] >= 0.95 * SILENT_PER_SECOND * seconds, "that was no siege"
    assert during["incomplete"] <= LIMIT
    assert during["cut"]["evicted"] > 0
    assert len(outcomes) >= 0.8 * HONEST_PER_SECOND * seconds
    assert sum(outcomes) >= HONEST_SHARE * len(outcomes)
