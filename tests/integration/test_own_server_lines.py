"""Where the door's lines go in a server of one's own: uvicorn with an app, as the pages show it, whose lines nobody takes."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import websockets
from tests.door_client import heard
from tests.servers import SERVERS, Running, listening, settings_for
from websockets.exceptions import InvalidStatus

from doorward.drill.peers import free_port
from doorward.testing import FakeAuthService

HERE = Path(__file__).parent
PATIENCE_SECONDS = 10.0
PIPE_BYTES = 4096
"""The least that a pipe can be made to hold."""

HANDSHAKES = 40
"""Their lines are three times what such a pipe holds."""


@pytest.fixture
async def auth() -> AsyncIterator[FakeAuthService]:
    async with FakeAuthService() as auth:
        yield auth


def own_server(
    auth: FakeAuthService, tmp_path: Path, lines: Path, **settings: str
) -> AbstractAsyncContextManager[Running]:
    """uvicorn's own lines are its own affair, so it has none here."""
    at = str(free_port())
    command = (*SERVERS["UvicornProtocol"]("server_app:app", at), "--log-level", "critical")
    return listening(command, at, HERE, settings_for(auth, tmp_path / "data") | settings, lines)


async def knock(running: Running) -> None:
    """A handshake without a token, which has its line too."""
    with pytest.raises(InvalidStatus) as refused:
        await websockets.connect(running.url, proxy=None, open_timeout=PATIENCE_SECONDS)
    assert refused.value.response.status_code == 401


async def served_and_revoked(running: Running, auth: FakeAuthService) -> None:
    """The handshake is answered, and what runs in the background goes on."""
    token = auth.issue("ada")
    headers = {"Authorization": f"Bearer {token}"}
    async with websockets.connect(
        running.url, additional_headers=headers, proxy=None, open_timeout=PATIENCE_SECONDS
    ) as client:
        await heard(client, "hello ada")
        auth.revoke(user_id="ada")
        await asyncio.wait_for(client.wait_closed(), PATIENCE_SECONDS)


async def test_a_full_disk_holds_up_nobody(tmp_path: Path, auth: FakeAuthService) -> None:
    async with own_server(auth, tmp_path, Path("/dev/full")) as running:
        await served_and_revoked(running, auth)


async def test_a_pipe_that_nobody_reads_holds_up_nobody(tmp_path: Path, auth: FakeAuthService) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    held = os.open(pipe, os.O_RDWR)
    try:
        fcntl.fcntl(held, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        async with own_server(auth, tmp_path, pipe) as running:
            for _ in range(HANDSHAKES):
                await knock(running)
            await served_and_revoked(running, auth)
            running.terminate()
            await running.ended()
        assert len(os.read(held, 2 * PIPE_BYTES)) > PIPE_BYTES // 2, "it was never filled"
    finally:
        os.close(held)


async def test_the_settings_hold_there_too(tmp_path: Path, auth: FakeAuthService) -> None:
    lines = tmp_path / "lines"
    async with own_server(auth, tmp_path, lines, log_format="json") as running:
        await knock(running)
        running.terminate()
        await running.ended()
    told = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    assert "decision" in {line["event"] for line in told}

    async with own_server(auth, tmp_path, lines, log_level="error") as running:
        await knock(running)
        running.terminate()
        await running.ended()
    assert lines.read_text(encoding="utf-8") == ""
