"""Clients that misbehave before they are anybody: half a request, no request, too much of one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from doorward.drill.clients import http_address
from doorward.drill.judge import Stray
from doorward.drill.scenarios import Behaviour

UPGRADE = "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
REST = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

_SAID: Mapping[Behaviour, str] = {
    Behaviour.HALF_SENT: UPGRADE,
    Behaviour.SAYS_NOTHING: "",
    Behaviour.BIG_COOKIE: f"{UPGRADE}{REST}Cookie: a={'x' * 9216}\r\n\r\n",
    Behaviour.MANY_HEADERS: UPGRADE + REST + "".join(f"X-{number}: y\r\n" for number in range(200)) + "\r\n",
}


async def stray(url: str, behaviour: Behaviour, *, patience_seconds: float) -> Stray:
    """Behave like this, and see how it ends.

    Cancellation: the connection is cut.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    answer: bytes | None = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience_seconds), _saying(url, _SAID[behaviour]) as reader:
            answer = await _end_of(reader)
    return Stray(behaviour, round(loop.time() - began, 4), answer is not None, _status(answer or b""))


@asynccontextmanager
async def _saying(url: str, said: str) -> AsyncIterator[asyncio.StreamReader]:
    host, port = http_address(url)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(said.format(host=f"{host}:{port}").encode())
        yield reader
    finally:
        writer.transport.abort()


async def _end_of(reader: asyncio.StreamReader) -> bytes:
    """The first line of an answer, or nothing if the connection was cut."""
    try:
        return await reader.readline()
    except ConnectionError:
        return b""


def _status(line: bytes) -> int | None:
    parts = line.split()
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None
