"""Clients that misbehave, and how each of them ends: cut, answered, closed, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count, islice
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from doorward.drill.clients import PROTOCOL, Conversation, http_address, word_of
from doorward.drill.evidence import Stray
from doorward.drill.results import Outcome
from doorward.drill.scenarios import CUT, Behaviour, answered, closed

UPGRADE = "GET {resource} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
REST = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

_SAID: Mapping[Behaviour, str] = {
    Behaviour.HALF_SENT: UPGRADE,
    Behaviour.SAYS_NOTHING: "",
    Behaviour.BIG_COOKIE: f"{UPGRADE}{REST}Cookie: a={'x' * 9216}\r\n\r\n",
    Behaviour.MANY_HEADERS: UPGRADE + REST + "".join(f"X-{number}: y\r\n" for number in range(200)) + "\r\n",
}

CHUNK_BYTES = 65_536
KERNEL_BYTES = 4_096
"""Who stops reading has small buffers in its kernel. That of the door may take some megabytes before the door itself notices."""
PING_PADDING = "\x01" * 120
"""Six bytes each in JSON, and it comes back in the answer."""
PINGS_A_LOOK = 40
LOOK_SECONDS = 0.05
UNSENT_BYTES = 16_384
"""Who cannot get rid of so much is not listened to any more: then the door is full, and its clock runs."""
LEFT_SECONDS = 1.0
"""After its patience a reader that stopped reads what is left, for so long: the end must be in it."""


async def stray(
    url: str, behaviour: Behaviour, *, patience_seconds: float, token: str | None = None, address: str | None = None
) -> Stray:
    """Behave like this, and see how it ends.

    Args:
        patience_seconds: whoever has not ended by then was left open.
        token: for who must be let in first.
        address: local address to call from.

    Cancellation: the connection is cut.
    """
    loop = asyncio.get_running_loop()
    end: str | None = None
    began = ended_at = loop.time()
    try:
        if behaviour is Behaviour.STOPS_READING:
            end, began, ended_at = await _stopped_reading(url, token, patience_seconds)
        else:
            async with asyncio.timeout(patience_seconds), _connected(url, address) as (reader, writer):
                if behaviour is Behaviour.NO_AUTH_FRAME:
                    end, ended_at = await _unspoken(url, reader, writer)
                else:
                    there = parse_uri(url)
                    said = _SAID[behaviour].format(resource=there.resource_name, host=urlsplit(url).netloc)
                    writer.write(said.encode())
                    end, ended_at = await _answer(reader)
    except (
        OSError,
        asyncio.IncompleteReadError,
    ):  # TimeoutError is an OSError; so is a connection that could not be had
        ended_at = loop.time()
    return Stray(behaviour, round(ended_at - began, 4), end)


@asynccontextmanager
async def _connected(url: str, address: str | None) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    local = (address, 0) if address is not None else None
    there = parse_uri(url)
    reader, writer = await asyncio.open_connection(
        there.host, there.port, ssl=True if there.secure else None, local_addr=local
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _answer(reader: asyncio.StreamReader) -> tuple[str, float]:
    """What it was told and when, once the connection has ended too."""
    line = b""
    with contextlib.suppress(ConnectionError):
        line = await reader.readline()
    heard_at = asyncio.get_running_loop().time()
    await _end_of(reader)
    parts = line.split()
    return answered(int(parts[1])) if len(parts) > 1 and parts[1].isdigit() else CUT, heard_at


async def _unspoken(url: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, float]:
    """Shake hands, and say nothing any more: not even the answer to a close frame."""
    websocket = ClientProtocol(parse_uri(url), subprotocols=[Subprotocol(PROTOCOL)])
    websocket.send_request(websocket.connect())
    writer.write(b"".join(websocket.data_to_send()))
    loop = asyncio.get_running_loop()
    word, end, heard_at = "", CUT, 0.0
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(CHUNK_BYTES):
            websocket.receive_data(chunk)
            for event in websocket.events_received():
                if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                    word = word_of(bytes(event.data))
                elif isinstance(event, Frame) and event.opcode is Opcode.CLOSE and websocket.close_rcvd is not None:
                    end, heard_at = closed(websocket.close_rcvd.code, word), loop.time()
    return end, heard_at or loop.time()


async def _end_of(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        while await reader.read(CHUNK_BYTES):
            pass


async def _stopped_reading(url: str, token: str | None, patience_seconds: float) -> tuple[str | None, float, float]:
    """Be let in, ask and ask, and read none of it; at last read what is left, for the end may be in it.

    Returns:
        The end, since when nothing was taken from it any more, and when it ended.
    """
    loop = asyncio.get_running_loop()
    conversation = Conversation(parse_uri(url), token, browser=False, headers=())
    with socket.socket() as kernel:
        for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            kernel.setsockopt(socket.SOL_SOCKET, buffer, KERNEL_BYTES)
        kernel.setblocking(False)
        await loop.sock_connect(kernel, http_address(url))
        await loop.create_connection(lambda: conversation, sock=kernel.dup())
    stuck_at = loop.time()
    try:
        async with asyncio.timeout(patience_seconds):
            told = await conversation.told
        if told.outcome is not Outcome.ALLOW:
            return f"not let in: {told.code or told.status}", stuck_at, loop.time()
        conversation.stop_reading()
        stuck_at = await _ask_on(conversation, loop.time() + patience_seconds)
        conversation.read_on()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEFT_SECONDS):
                await conversation.ended.wait()
    finally:
        conversation.abort()
    code = conversation.close_received
    end = closed(code) if code is not None else CUT if conversation.ended.is_set() else None
    return end, stuck_at, loop.time()


async def _ask_on(conversation: Conversation, until: float) -> float:
    """Until the connection ends, or until then. Returns when the last of it was taken."""
    loop = asyncio.get_running_loop()
    numbers = count()
    stuck_at = loop.time()
    while not conversation.ended.is_set() and loop.time() < until:
        if conversation.unsent_bytes < UNSENT_BYTES:
            stuck_at = loop.time()
            for number in islice(numbers, PINGS_A_LOOK):
                conversation.ping(number, padding=PING_PADDING)
        await asyncio.sleep(LOOK_SECONDS)
    return stuck_at
