"""Real sockets against the bounded opening handshake."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from uvicorn.protocols.utils import ClientDisconnected
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from doorward.asgi import uvicorn_websocket
from doorward.asgi.opening import Cut, OpeningCounters, OpeningPolicy
from doorward.asgi.uvicorn_protocol import DoorwardHttpProtocol
from doorward.asgi.uvicorn_websocket import DoorwardWebSocketProtocol
from doorward.cli.server import Server, bind
from doorward.core.deadline import Deadline

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]

PATIENCE_SECONDS = 5.0
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\n"


@dataclass
class EchoApp:
    """Accepts and echoes; over HTTP it answers with the length of the body. Knows the scopes it was handed."""

    scopes: list[dict[str, Any]] = field(default_factory=list)
    reads: asyncio.Event = field(default_factory=asyncio.Event)
    is_busy: bool = False
    """Until `reads` it takes no message."""
    messages_sent: int = 0
    unread_bytes: int = 0
    """What was left in our buffer, far below the mark at which writing pauses, when the app ended."""

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return
        self.scopes.append(scope)
        if scope["type"] == "websocket" and scope["path"] == "/unread":
            await self._flood_messages(send)
        elif scope["type"] == "websocket" and scope["path"] == "/close":
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 1000})
            await self.reads.wait()
        elif scope["path"] in {"/close-unread", "/return-unread"}:
            await send({"type": "websocket.accept"})
            await self._leave_unread(send, {"type": "websocket.send", "bytes": b"x" * 1_000})
            if scope["path"] == "/close-unread":
                await send({"type": "websocket.close"})
        elif scope["path"] == "/rest-unread":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await self._leave_unread(send, {"type": "http.response.body", "body": b"x" * 1_000, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        elif scope["path"] == "/large":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"16000000")]})
            await send({"type": "http.response.body", "body": b"x" * 16_000_000})
        elif scope["type"] == "websocket":
            await self._echo(receive, send)
        elif scope["path"] == "/unread":
            await self._flood(send)
        else:
            await self._measure(scope, receive, send)

    async def _echo(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        if self.is_busy:
            await self.reads.wait()
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})

    async def _measure(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["path"] == "/late":
            await self.reads.wait()
        length = 0
        while scope["path"] != "/early":
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            length += len(message["body"])
            if not message["more_body"]:
                break
        body = str(length).encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _leave_unread(self, send: Send, message: dict[str, Any]) -> None:
        (connection,) = open_ones(DoorwardHttpProtocol, DoorwardWebSocketProtocol)
        while not (unread := connection.transport.get_write_buffer_size()):
            await send(message)
        self.unread_bytes = unread

    async def _flood_messages(self, send: Send) -> None:
        await send({"type": "websocket.accept"})
        for _ in range(1000):
            await send({"type": "websocket.send", "bytes": b"x" * 65_536})
            self.messages_sent += 1

    async def _flood(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})


@dataclass
class Running:
    port: int
    app: EchoApp
    counters: OpeningCounters

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, limit=2**22)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():  # noqa: ASYNC110 - the server's counters tell nobody
                await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(**bounds: Any) -> AsyncIterator[Running]:
    app, counters = EchoApp(), OpeningCounters()
    listener = bind("127.0.0.1", 0, "serve")
    server = Server(app, opening=OpeningPolicy(**bounds), counters=counters)
    await server.start(listener)
    try:
        yield Running(listener.getsockname()[1], app, counters)
    finally:
        await server.stop(Deadline.after(asyncio.get_running_loop().time(), PATIENCE_SECONDS))
        listener.close()


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        await asyncio.wait_for(writer.wait_closed(), PATIENCE_SECONDS)
    except ConnectionError:
        return


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server ends the connection, however it does."""
    received = b""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while piece := await reader.read(65_536):
                received += piece
    except ConnectionError:
        pass
    return received


async def seconds_until_cut(reader: asyncio.StreamReader) -> float:
    begun = time.monotonic()
    assert await read_all(reader) == b""
    return time.monotonic() - begun


async def flood(writer: asyncio.StreamWriter, message: bytes) -> None:
    while True:
        writer.write(message)
        await writer.drain()


async def flood_until_cut(writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            while True:
                writer.write(b"a" * 65_536)
                await writer.drain()
                await asyncio.sleep(0.001)
        except ConnectionError:
            return


def problem(response: bytes) -> dict[str, Any]:
    head, _, body = response.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    content: dict[str, Any] = json.loads(body)
    assert head.startswith(b"HTTP/1.1 %d " % content["status"])
    return content


# What is good


async def test_an_honest_handshake_echoes_and_is_complete() -> None:
    async with serving() as running, connect(f"ws://127.0.0.1:{running.port}/ws?a=b") as client:
        await client.send("hello")
        assert await asyncio.wait_for(client.recv(), PATIENCE_SECONDS) == "hello"
        assert running.app.scopes[0]["query_string"] == b"a=b"
        counters = running.counters
        assert (counters.connections, counters.incomplete, counters.complete, counters.websockets) == (1, 0, 1, 1)
        await client.close()
        await running.until(lambda: counters.connections == 0)
        assert (counters.complete, counters.websockets, counters.cut.total()) == (0, 0, 0)


async def test_compression_is_not_negotiated() -> None:
    async with serving() as running, connect(f"ws://127.0.0.1:{running.port}/", compression="deflate") as client:
        assert client.response is not None
        assert "Sec-WebSocket-Extensions" not in client.response.headers
        assert "Server" not in client.response.headers


async def test_a_kept_alive_connection_is_not_incomplete_between_two_requests() -> None:
    async with serving(header_seconds=0.2) as running:
        reader, writer = await running.open()
        for body in (b"", b"abc"):
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            response = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
            assert response.startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(1) == b"%d" % len(body)
            assert (running.counters.incomplete, running.counters.complete) == (0, 1)
            await asyncio.sleep(0.3)  # longer than a header may take
        assert running.counters.cut.total() == 0
        await close(writer)


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving(header_seconds=0.3) as running:
        reader, writer = await running.open()
        request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
        writer.write(request % 3 + b"abc" + request % 20_000)
        writer.write(b"x" * 20_000 + request % 1 + b"z")
        answers = [await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS) for _ in range(1)]
        received = await reader.readexactly(1)
        for expected in (b"20000", b"1"):
            answers.append(await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS))
            assert await reader.readexactly(len(expected)) == expected
        assert received == b"3"
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        await close(writer)


async def test_a_websocket_outlives_the_keep_alive_of_a_request_before_it() -> None:
    async with serving(keep_alive_seconds=1) as running:
        reader, writer = await running.open()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n0"), PATIENCE_SECONDS)).startswith(b"HTTP/1.1 200")
        writer.write(UPGRADE + b"\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)).startswith(SWITCHED)
        await asyncio.sleep(1.2)
        writer.write(b"\x81\x82\0\0\0\0hi")
        assert await asyncio.wait_for(reader.readexactly(4), PATIENCE_SECONDS) == b"\x81\x02hi"
        await close(writer)


async def test_an_answer_that_is_still_unread_holds_the_websocket_behind_it_back() -> None:
    async with serving(unread_seconds=0.4) as running:
        with socket.socket() as sock:
            await connected(sock, running)
            await asyncio.get_running_loop().sock_sendall(sock, b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            await running.until(lambda: running.counters.complete == 1)
            await asyncio.get_running_loop().sock_sendall(sock, UPGRADE.replace(b"/ws", b"/unread") + b"\r\n")
            await running.until(lambda: running.counters.websockets == 1)
            await running.until(lambda: running.counters.cut == {Cut.UNREAD: 1})
            assert running.app.messages_sent == 0


async def test_another_request_wins_a_peer_that_does_not_read_no_time() -> None:
    async with serving(unread_seconds=0.4) as running:
        with socket.socket() as sock:
            await connected(sock, running)
            for _ in range(2):
                await asyncio.get_running_loop().sock_sendall(sock, b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
                await running.until(lambda: running.counters.complete == 1)
            await running.until(lambda: running.counters.cut == {Cut.UNREAD: 1})


# Too large


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(UPGRADE + b"Cookie: " + b"c" * 9_000 + b"\r\n\r\n", id="9 KB cookie"),
        pytest.param(UPGRADE + b"X-A: b\r\n" * 200 + b"\r\n", id="200 headers"),
        pytest.param(UPGRADE + b"X-A: " + b"a" * 1_000_000 + b"\r\n\r\n", id="1 MB header"),
        pytest.param(UPGRADE + b"X-A: " + b"a" * 9_000, id="an endless line"),
        pytest.param(UPGRADE + b"a" * 9_000, id="an endless name"),
        pytest.param(UPGRADE + b"X-A: %b\r\n" % (b"a" * 7_000) * 10 + b"\r\n", id="70 KB in short lines"),
        pytest.param(UPGRADE.replace(b"/ws", b"/" + b"a" * 9_000) + b"\r\n", id="9 KB path"),
        pytest.param(b"GET /" + b"a" * 9_000, id="an endless path"),
        pytest.param(b"POST / HTTP/1.1\r\nCookie: " + b"c" * 9_000 + b"\r\n\r\n", id="plain request"),
    ],
)
async def test_a_header_too_large_gets_431_at_once(head: bytes) -> None:
    async with serving() as running:
        reader, writer = await running.open()
        writer.write(head)
        response = await read_all(reader)
        content = problem(response)
        assert (content["status"], content["code"]) == (431, "HEADERS_TOO_LARGE")
        assert content["type"] == "https://doorward.dev/problems/headers-too-large"
        assert running.app.scopes == []
        assert running.counters.headers_too_large == 1
        await close(writer)
        await running.until(lambda: running.counters.connections == 0)
        assert running.counters.incomplete == 0


async def test_the_431_comes_within_100_ms_while_the_header_still_comes_in() -> None:
    async with serving(header_seconds=30.0) as running:
        waits = []
        for _ in range(5):
            reader, writer = await running.open()
            begun = time.monotonic()
            writer.write(UPGRADE + b"X-A: " + b"a" * 1_000_000)
            assert (await asyncio.wait_for(reader.readline(), PATIENCE_SECONDS)).startswith(b"HTTP/1.1 431 ")
            waits.append(time.monotonic() - begun)
            await close(writer)
        assert sorted(waits)[2] < 0.1


async def test_the_largest_header_that_fits_is_let_through() -> None:
    async with serving() as running:
        reader, writer = await running.open()
        writer.write(UPGRADE + b"Cookie: " + b"c" * (8 * 1024 - len("Cookie: \r\n")) + b"\r\n")
        writer.write(b"X-A: b\r\n" * (128 - 6) + b"\r\n")
        assert (await asyncio.wait_for(reader.readline(), PATIENCE_SECONDS)) == SWITCHED
        assert len(running.app.scopes[0]["headers"]) == 128
        await close(writer)


async def test_a_blocking_client_that_writes_all_before_it_reads_can_read_the_431() -> None:
    def client(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(UPGRADE + b"X-A: " + b"a" * 1_000_000 + b"\r\n\r\n")
            received = b""
            while piece := connection.recv(65_536):
                received += piece
            return received

    async with serving() as running:
        response = await asyncio.to_thread(client, running.port)
        assert problem(response)["code"] == "HEADERS_TOO_LARGE"


async def test_a_peer_that_never_stops_talking_is_cut_after_its_431() -> None:
    async with serving(linger_bytes=500_000, linger_seconds=30.0) as running:
        reader, writer = await running.open()
        writer.write(UPGRADE + b"X-A: ")
        await flood_until_cut(writer)
        await running.until(lambda: running.counters.connections == 0)
        await close(writer)
        assert reader is not None


async def test_a_refused_peer_that_stays_is_cut_after_the_linger_time() -> None:
    async with serving(linger_seconds=0.2) as running:
        reader, writer = await running.open()
        writer.write(UPGRADE + b"X-A: " + b"a" * 9_000)
        assert problem(await read_all(reader))["status"] == 431
        assert running.counters.connections == 1
        await running.until(lambda: running.counters.connections == 0)
        await close(writer)


# Too late


async def test_a_silent_connection_is_cut() -> None:
    async with serving(silent_seconds=0.3) as running:
        reader, writer = await running.open()
        assert 0.25 < await seconds_until_cut(reader) < 0.6
        assert running.counters.cut == {Cut.SILENT: 1}
        assert running.counters.incomplete == 0
        await close(writer)


@pytest.mark.parametrize(
    "part", [b"G", b"\r\n", b"GET /ws HTTP/1.1\r\n", UPGRADE, UPGRADE + b"X-A: b", b"POST / HTTP/1.1\r\nHost: a"]
)
async def test_a_half_sent_request_is_cut(part: bytes) -> None:
    async with serving(header_seconds=0.3) as running:
        reader, writer = await running.open()
        writer.write(part)
        assert 0.25 < await seconds_until_cut(reader) < 0.6
        assert running.counters.cut == {Cut.HEADER: 1}
        await close(writer)


async def test_a_dripped_header_wins_no_time() -> None:
    async with serving(header_seconds=0.4, silent_seconds=0.4) as running:
        reader, writer = await running.open()
        begun = time.monotonic()

        async def drip() -> None:
            for byte in UPGRADE:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert await read_all(reader) == b""
        assert 0.35 < time.monotonic() - begun < 0.8
        dripping.cancel()
        await asyncio.wait({dripping})
        assert running.counters.cut == {Cut.HEADER: 1}
        await close(writer)


async def test_a_dripped_header_within_the_time_is_served() -> None:
    async with serving(header_seconds=2.0) as running:
        reader, writer = await running.open()
        request = UPGRADE + b"\r\n"
        for start in range(0, len(request), 40):
            writer.write(request[start : start + 40])
            await asyncio.sleep(0.01)
        assert await asyncio.wait_for(reader.readline(), PATIENCE_SECONDS) == SWITCHED
        await close(writer)


async def test_the_second_request_of_a_connection_is_bounded_too() -> None:
    async with serving(header_seconds=0.3) as running:
        reader, writer = await running.open()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /again HT")
        response = await read_all(reader)
        assert response.startswith(b"HTTP/1.1 200")
        assert running.counters.cut == {Cut.HEADER: 1}
        await close(writer)


async def test_a_request_body_without_progress_is_cut() -> None:
    async with serving(body_seconds=0.3) as running:
        reader, writer = await running.open()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        await asyncio.sleep(0.2)
        writer.write(b"d")
        assert 0.25 < await seconds_until_cut(reader) < 0.6
        assert running.counters.cut == {Cut.BODY: 1}
        assert running.counters.incomplete == 0
        await close(writer)


async def test_a_dripped_body_has_an_end() -> None:
    async with serving(body_seconds=0.2, body_total_seconds=0.4) as running:
        reader, writer = await running.open()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        begun = time.monotonic()

        async def drip() -> None:
            while True:
                writer.write(b"a")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert await read_all(reader) == b""
        assert 0.5 < time.monotonic() - begun < 1.2
        dripping.cancel()
        await asyncio.wait({dripping})
        assert running.counters.cut == {Cut.BODY: 1}
        await close(writer)


async def test_a_peer_that_waits_for_100_continue_is_not_late() -> None:
    async with serving(body_seconds=0.2) as running:
        reader, writer = await running.open()
        writer.write(b"POST /late HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        await asyncio.sleep(0.5)
        running.app.reads.set()
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)).startswith(b"HTTP/1.1 100")
        writer.write(b"abc")
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)).startswith(b"HTTP/1.1 200")
        await close(writer)


async def test_a_peer_is_not_late_while_the_application_does_not_read() -> None:
    async with serving(body_seconds=0.2) as running:
        reader, writer = await running.open()
        writer.write(b"POST /late HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000)
        await asyncio.sleep(0.5)
        running.app.reads.set()
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)).startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(7) == b"1000000"
        await close(writer)


async def test_a_connection_answered_before_its_body_does_not_stay_for_ever() -> None:
    async with serving(header_seconds=0.2, body_seconds=2.0, keep_alive_seconds=1) as running:
        reader, writer = await running.open()
        writer.write(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)).startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(1) == b"0"
        writer.write(b"abc")
        assert 0.8 < await seconds_until_cut(reader) < 1.5
        assert running.counters.cut.total() == 0
        await close(writer)


async def test_endless_trailers_are_cut() -> None:
    async with serving() as running:
        reader, writer = await running.open()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-A: ")
        await flood_until_cut(writer)
        assert running.counters.cut == {Cut.BODY: 1}
        await close(writer)
        assert reader is not None


@pytest.mark.parametrize(
    "request_", [b"GET /unread HTTP/1.1\r\nHost: a\r\n\r\n", UPGRADE.replace(b"/ws", b"/unread") + b"\r\n"]
)
async def test_a_peer_that_does_not_read_is_cut(request_: bytes) -> None:
    async with serving(unread_seconds=0.3) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(request_)
            await running.until(lambda: running.counters.cut == {Cut.UNREAD: 1})
            await running.until(lambda: running.counters.connections == 0)


@pytest.mark.parametrize(
    "request_", [b"GET /unread HTTP/1.1\r\nHost: a\r\n\r\n", UPGRADE.replace(b"/ws", b"/unread") + b"\r\n"]
)
async def test_a_peer_that_reads_late_but_reads_is_served(request_: bytes) -> None:
    async with serving(unread_seconds=1.0) as running:
        reader, writer = await running.open()
        writer.write(request_)
        await asyncio.sleep(0.2)
        assert len(await asyncio.wait_for(reader.readexactly(1000 * 65_536), PATIENCE_SECONDS)) == 1000 * 65_536
        assert running.counters.cut.total() == 0
        await close(writer)


# Too many


async def test_over_the_limit_the_oldest_of_the_largest_holder_is_evicted() -> None:
    async with serving(incomplete_handshakes=3) as running:
        loop = asyncio.get_running_loop()
        crowd = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(2)]
        other = await asyncio.open_connection("127.0.0.1", running.port, local_addr=("127.0.1.1", 0))
        await running.until(lambda: running.counters.incomplete == 3)
        crowd[0][1].write(b"GET")  # talking does not make it younger
        begun = loop.time()
        newest = await asyncio.open_connection("127.0.0.1", running.port, local_addr=("127.0.1.2", 0))

        assert await read_all(crowd[0][0]) == b""
        assert loop.time() - begun < 0.5
        assert (running.counters.incomplete, running.counters.evicted) == (3, 1)
        for reader, writer in (crowd[1], other, newest):
            writer.write(UPGRADE + b"\r\n")
            assert await asyncio.wait_for(reader.readline(), PATIENCE_SECONDS) == SWITCHED
        assert (running.counters.incomplete, running.counters.complete) == (0, 3)
        for _, writer in (*crowd, other, newest):
            await close(writer)


async def test_complete_connections_do_not_count() -> None:
    async with serving(incomplete_handshakes=2) as running:
        clients = [await running.open() for _ in range(2)]
        for _ in range(5):
            reader, writer = await running.open()
            writer.write(UPGRADE + b"\r\n")
            assert await asyncio.wait_for(reader.readline(), PATIENCE_SECONDS) == SWITCHED
            clients.append((reader, writer))
            await running.until(lambda: running.counters.incomplete <= 2)
        assert running.counters.complete == 5
        for _, writer in clients:
            await close(writer)


# The switch


@pytest.mark.parametrize(
    ("extra", "status"),
    [
        pytest.param(b"Content-Length: 5\r\n", 400, id="announces a body"),
        pytest.param(b"Sec-WebSocket-Key: c2Vjb25k\r\n", 400, id="two keys"),
        pytest.param(b"Upgrade: h2c\r\nUpgrade: websocket\r\n", 426, id="two upgrades"),
        pytest.param(b"Sec-WebSocket-Protocol: a b\r\n", 400, id="no list of subprotocols"),
    ],
)
async def test_an_upgrade_that_websockets_refuses_is_answered(extra: bytes, status: int) -> None:
    async with serving() as running:
        reader, writer = await running.open()
        writer.write(UPGRADE + extra + b"\r\n")
        assert (await read_all(reader)).startswith(b"HTTP/1.1 %d " % status)
        assert running.app.scopes == []
        assert running.counters.incomplete == 0
        await close(writer)


@pytest.mark.parametrize("garbage", [b"\x00\x01\x02", b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nX: \x01\r\n\r\n"])
async def test_what_is_not_http_gets_400(garbage: bytes) -> None:
    async with serving() as running:
        reader, writer = await running.open()
        writer.write(garbage)
        assert problem(await read_all(reader))["status"] == 400
        assert running.counters.malformed == 1
        await close(writer)


@pytest.mark.parametrize("apart", [False, True])
async def test_bytes_before_our_answer_are_cut(apart: bool) -> None:
    """RFC 6455, section 4.1: the client waits. What it sends early would be memory for strangers."""
    async with serving() as running:
        gate = asyncio.Event()

        async def slow(receive: Receive, send: Send) -> None:
            await asyncio.wait_for(gate.wait(), PATIENCE_SECONDS)

        running.app._echo = slow  # type: ignore[method-assign]
        reader, writer = await running.open()
        writer.write(UPGRADE + b"\r\n" + (b"" if apart else b"early"))
        if apart:
            await running.until(lambda: len(running.app.scopes) == 1)
            writer.write(b"early")
        assert await read_all(reader) == b""
        assert running.counters.cut == {Cut.EARLY: 1}
        gate.set()
        await close(writer)


@pytest.mark.parametrize("second", [UPGRADE + b"\r\n", b"\x00\x00\x00\x00", b"GET / HTTP/1.1\r\nX: " + b"a" * 9_000])
async def test_nothing_is_written_into_an_answer_that_is_under_way(second: bytes) -> None:
    async with serving() as running:
        reader, writer = await running.open()
        writer.write(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
        await running.until(lambda: len(running.app.scopes) == 1)
        writer.write(second)
        assert await read_all(reader) == b""
        assert running.counters.cut == {Cut.PIPELINED: 1}
        running.app.reads.set()
        await close(writer)


async def test_a_target_in_absolute_form_is_read_as_its_path() -> None:
    """RFC 9112, section 3.2.2."""
    async with serving() as running:
        reader, writer = await running.open()
        writer.write(UPGRADE.replace(b"/ws", b"http://a/w%73?x=%31") + b"\r\n")
        assert await asyncio.wait_for(reader.readline(), PATIENCE_SECONDS) == SWITCHED
        (scope,) = running.app.scopes
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/ws", b"/w%73", b"x=%31")
        await close(writer)


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        (b"http://a", ("/", b"")),
        (b"http://a?x=1", ("/", b"x=1")),
        pytest.param(b"http://[::1/x", None, id="no URL"),
    ],
)
async def test_every_target_gets_an_answer(target: bytes, seen: tuple[str, bytes] | None) -> None:
    async with serving() as running:
        reader, writer = await running.open()
        writer.write(UPGRADE.replace(b"/ws", target) + b"\r\n")
        answer = await asyncio.wait_for(reader.readline(), PATIENCE_SECONDS)
        if seen is None:
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert running.counters.malformed == 1
        else:
            assert answer == SWITCHED
            assert (running.app.scopes[0]["path"], running.app.scopes[0]["query_string"]) == seen
        await close(writer)


async def test_white_space_around_a_header_is_not_of_its_value() -> None:
    """RFC 9112, section 5."""
    async with serving() as running:
        reader, writer = await running.open()
        writer.write(UPGRADE + b"Authorization: \t Bearer x \t \r\n\r\n")
        assert await asyncio.wait_for(reader.readline(), PATIENCE_SECONDS) == SWITCHED
        assert (b"authorization", b"Bearer x") in running.app.scopes[0]["headers"]
        await close(writer)


async def test_the_log_of_uvicorn_has_its_lines_without_a_query(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as running:
        caplog.set_level(logging.INFO, "uvicorn.error")
        for path in (b"/ws", b"/close"):
            reader, writer = await running.open()
            writer.write(UPGRADE.replace(b"/ws", path + b"?access_token=secret") + b"\r\n")
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
            writer.transport.abort()
        lines = [record.getMessage() for record in caplog.records if record.name == "uvicorn.error"]
        assert [line.partition(" - ")[2] for line in lines if "WebSocket" in line] == [
            '"WebSocket /ws" [accepted]',
            '"WebSocket /close" [accepted]',
        ]
        assert "secret" not in caplog.text


async def test_the_application_cannot_say_two_headers_in_one(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as running:

        async def splitting(receive: Receive, send: Send) -> None:
            await send({"type": "websocket.accept", "headers": [(b"x", b"1\r\nset-cookie: a=b")]})

        running.app._echo = splitting  # type: ignore[method-assign]
        reader, writer = await running.open()
        writer.write(UPGRADE + b"\r\n")
        answer = await read_all(reader)
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"set-cookie" not in answer
        assert "Invalid HTTP header" in caplog.text
        await close(writer)


@pytest.mark.parametrize("ended", [False, True], ids=["half an answer", "no answer"])
async def test_an_application_that_does_not_decide_is_an_error(caplog: pytest.LogCaptureFixture, ended: bool) -> None:
    async with serving() as running:

        async def silent(receive: Receive, send: Send) -> None:
            if not ended:
                await send({"type": "websocket.http.response.start", "status": 403, "headers": []})

        running.app._echo = silent  # type: ignore[method-assign]
        reader, writer = await running.open()
        writer.write(UPGRADE + b"\r\n")
        assert (await read_all(reader)).startswith(b"HTTP/1.1 500 ")
        assert "without completing handshake" in caplog.text
        await close(writer)


async def test_another_upgrade_is_a_plain_request() -> None:
    async with serving() as running:
        reader, writer = await running.open()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert (await asyncio.wait_for(reader.readline(), PATIENCE_SECONDS)) == b"HTTP/1.1 200 OK\r\n"
        await close(writer)


async def test_the_application_can_abort_the_connection() -> None:
    async with serving() as running:
        reader, writer = await running.open()
        writer.write(UPGRADE + b"\r\n")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        running.app.scopes[0]["extensions"]["doorward"]["abort"]()
        assert await read_all(reader) == b""
        await running.until(lambda: running.counters.connections == 0)
        await close(writer)


# Messages


async def test_a_message_too_big_is_told_with_1009() -> None:
    async with serving() as running, connect(f"ws://127.0.0.1:{running.port}/", max_size=None) as client:
        await client.send("x" * 65_536)
        assert len(await asyncio.wait_for(client.recv(), PATIENCE_SECONDS)) == 65_536
        sending = asyncio.create_task(client.send("x" * 1_000_000))
        with pytest.raises(ConnectionClosedError) as caught:
            await asyncio.wait_for(client.recv(), PATIENCE_SECONDS)
        await asyncio.wait({sending}, timeout=PATIENCE_SECONDS)
        assert sending.done()
        sending.exception()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009


@pytest.mark.parametrize("bound", ["linger_seconds", "linger_bytes"])
async def test_a_peer_that_goes_on_after_1009_is_cut(bound: str) -> None:
    bounds = {"linger_seconds": 30.0, "linger_bytes": 2**30} | {bound: 0.2 if bound == "linger_seconds" else 100_000}
    async with serving(**bounds) as running:
        reader, writer = await running.open()
        writer.write(UPGRADE + b"\r\n")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        writer.write(b"\x82\xff" + struct.pack("!Q", 2**40) + b"mask")
        assert (await asyncio.wait_for(reader.readexactly(4), PATIENCE_SECONDS))[2:] == struct.pack("!H", 1009)
        await flood_until_cut(writer)
        await running.until(lambda: running.counters.connections == 0)
        await close(writer)


async def test_what_is_not_text_is_told_with_1007_behind_a_good_message() -> None:
    async with serving(linger_seconds=0.3) as running:
        reader, writer = await running.open()
        writer.write(UPGRADE + b"\r\n")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        writer.write(b"\x81\x82\0\0\0\0hi" + b"\x81\x81\0\0\0\0\xff")
        assert (await read_all(reader)) == b"\x88\x02" + struct.pack("!H", 1007)
        await close(writer)
        await running.until(lambda: running.counters.connections == 0)


async def test_what_is_not_text_ends_it_also_with_the_close_behind_it() -> None:
    async with serving(linger_seconds=30.0) as running:
        reader, writer = await running.open()
        writer.write(UPGRADE + b"\r\n")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        writer.write(b"\x81\x81\0\0\0\0\xff" + b"\x88\x82\0\0\0\0" + struct.pack("!H", 1000))
        assert (await read_all(reader)).startswith(b"\x88\x02")
        await close(writer)
        await running.until(lambda: running.counters.connections == 0)


async def test_what_is_not_text_is_told_also_with_a_ping_behind_it(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(linger_seconds=0.2) as running:
        reader, writer = await running.open()
        writer.write(UPGRADE + b"\r\n")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        writer.write(b"\x81\x81\0\0\0\0\xff" + b"\x89\x80\0\0\0\0")
        assert (await read_all(reader)).endswith(b"\x88\x02" + struct.pack("!H", 1007))
        assert not caplog.records, "nothing went up into the event loop"
        await close(writer)


async def test_parts_of_nothing_take_no_memory() -> None:
    async with serving() as running:
        reader, writer = await running.open()
        writer.write(UPGRADE + b"\r\n")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        (connection,) = connections()
        writer.write(b"\x01\x81\0\0\0\0a" + b"\x00\x80\0\0\0\0" * 10_000 + b"\x89\x80\0\0\0\0")
        assert await asyncio.wait_for(reader.readexactly(2), PATIENCE_SECONDS) == b"\x8a\x00"
        assert connection._fragments == [b"a"]
        writer.write(b"\x80\x81\0\0\0\0b")
        assert await asyncio.wait_for(reader.readexactly(4), PATIENCE_SECONDS) == b"\x81\x02ab"
        await close(writer)


async def test_a_message_in_parts_is_one_and_a_ping_between_them_is_answered() -> None:
    async with serving() as running:
        reader, writer = await running.open()
        writer.write(UPGRADE + b"\r\n")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        writer.write(b"\x01\x81\0\0\0\0a" + b"\x89\x81\0\0\0\0p" + b"\x00\x81\0\0\0\0b" + b"\x80\x81\0\0\0\0c")
        assert await asyncio.wait_for(reader.readexactly(8), PATIENCE_SECONDS) == b"\x8a\x01p" + b"\x81\x03abc"
        await close(writer)


async def test_who_sends_more_than_the_application_takes_is_not_read() -> None:
    async with serving() as running:
        gate = asyncio.Event()

        async def deaf(receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await asyncio.wait_for(gate.wait(), PATIENCE_SECONDS)
            for _ in range(10):
                assert len((await receive())["bytes"]) == 60_000

        running.app._echo = deaf  # type: ignore[method-assign]
        reader, writer = await running.open()
        writer.write(UPGRADE + b"\r\n")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        message = b"\x82\xfe" + struct.pack("!H", 60_000) + b"\0\0\0\0" + b"x" * 60_000
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(flood(writer, message), 0.5)
        gate.set()
        await running.until(lambda: running.counters.websockets == 0)
        await close(writer)


async def test_who_pings_and_does_not_read_is_owed_one_answer() -> None:
    loop = asyncio.get_running_loop()
    async with serving() as running:
        with socket.socket() as sock:
            connection, pings = await pinged_unread(sock, running)
            for _ in range(20):
                await asyncio.wait_for(loop.sock_sendall(sock, pinged(pings, 10_000)), PATIENCE_SECONDS)
                pings += 10_000
            last = b"\x8a\x7d" + struct.pack("!I", pings - 1).rjust(125, b"\0")
            await running.until(lambda: connection._owed_pong == last)
            assert connection.transport.get_write_buffer_size() < 2**20
            received = b""
            while not received.endswith(last):
                received = received[-200:] + await asyncio.wait_for(loop.sock_recv(sock, 2**20), PATIENCE_SECONDS)


async def test_who_pings_unread_and_then_breaks_the_rules_can_read_why() -> None:
    loop = asyncio.get_running_loop()
    async with serving(linger_seconds=5.0) as running:
        with socket.socket() as sock:
            _, pings = await pinged_unread(sock, running)
            await loop.sock_sendall(sock, pinged(pings, 1) + b"\x83\x80\0\0\0\0")
            received = b""
            while piece := await asyncio.wait_for(loop.sock_recv(sock, 2**20), PATIENCE_SECONDS):
                received = received[-200:] + piece
            assert b"\x88\x10" + struct.pack("!H", 1002) + b"invalid opcode" in received


@pytest.mark.parametrize("path", [b"/close-unread", b"/return-unread"])
async def test_a_connection_is_closed_in_time_though_the_peer_leaves_the_rest_unread(
    path: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_websocket, "_CLOSE_SECONDS", 0.3)
    async with serving() as running:
        with socket.socket() as sock:
            await connected(sock, running)
            await asyncio.get_running_loop().sock_sendall(sock, UPGRADE.replace(b"/ws", path) + b"\r\n")
            await running.until(lambda: running.app.unread_bytes > 0)
            await running.until(lambda: running.counters.connections == 0)


async def test_a_response_is_closed_in_time_though_the_peer_leaves_the_rest_unread() -> None:
    async with serving(unread_seconds=0.3) as running:
        with socket.socket() as sock:
            await connected(sock, running)
            await asyncio.get_running_loop().sock_sendall(
                sock, b"GET /rest-unread HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            )
            await running.until(lambda: running.app.unread_bytes > 0)
            await running.until(lambda: running.counters.connections == 0)


async def test_closing_what_the_peer_has_closed_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as running:

        async def polite(receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            assert (await receive())["type"] == "websocket.disconnect"
            await send({"type": "websocket.close"})
            with pytest.raises(ClientDisconnected):
                await send({"type": "websocket.send", "text": "late"})

        running.app._echo = polite  # type: ignore[method-assign]
        reader, writer = await running.open()
        writer.write(UPGRADE + b"\r\n")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        writer.write(b"\x88\x82\0\0\0\0" + struct.pack("!H", 1000))
        assert await read_all(reader) == b"\x88\x02" + struct.pack("!H", 1000)
        await running.until(lambda: running.counters.connections == 0)
        assert not caplog.records
        await close(writer)


async def pinged_unread(sock: socket.socket, running: Running) -> tuple[DoorwardWebSocketProtocol, int]:
    """A WebSocket whose peer has pinged so often, and read so little, that its last ping is owed an answer."""
    loop = asyncio.get_running_loop()
    await connected(sock, running)
    await loop.sock_sendall(sock, UPGRADE + b"\r\n")
    await running.until(lambda: len(connections()) == 1)
    (connection,) = connections()
    pings = 0
    while not connection._owed_pong:
        await asyncio.wait_for(loop.sock_sendall(sock, pinged(pings, 1_000)), PATIENCE_SECONDS)
        pings += 1_000
    return connection, pings


async def connected(sock: socket.socket, running: Running) -> None:
    """A peer that takes little before it is read."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", running.port))


def connections() -> list[DoorwardWebSocketProtocol]:
    return [each for each in open_ones(DoorwardWebSocketProtocol) if each._frames is not None]


def open_ones(*kinds: type) -> list[Any]:
    """The server's; one that is closed may wait for the garbage collector in a test that is over."""
    return [each for each in gc.get_objects() if issubclass(type(each), kinds) and not each.transport.is_closing()]


def pinged(first: int, count: int) -> bytes:
    """So many pings of the largest size, each with its number at the end."""
    return b"".join(
        b"\x89\xfd\0\0\0\0" + struct.pack("!I", number).rjust(125, b"\0") for number in range(first, first + count)
    )


async def test_garbage_in_place_of_the_answer_to_a_close_ends_in_time() -> None:
    async with serving(linger_seconds=0.2) as running:
        reader, writer = await running.open()
        writer.write(UPGRADE.replace(b"/ws", b"/close") + b"\r\n")
        await asyncio.wait_for(reader.readuntil(struct.pack("!H", 1000)), PATIENCE_SECONDS)
        writer.write(b"\x82\xff" + struct.pack("!Q", 2**40) + b"mask")
        assert await read_all(reader) == b""
        await running.until(lambda: running.counters.connections == 0)
        running.app.reads.set()
        await close(writer)


# Ending


async def test_a_stopping_server_tells_who_is_left() -> None:
    async with serving() as running:
        client = await connect(f"ws://127.0.0.1:{running.port}/")

        async def slow(receive: Receive, send: Send) -> None:
            while (await receive())["type"] != "websocket.disconnect":
                pass

        running.app._echo = slow  # type: ignore[method-assign]
        reader, writer = await running.open()
        writer.write(UPGRADE + b"\r\n")
        await running.until(lambda: len(running.app.scopes) == 2)
        closing, closing_writer = await running.open()
        closing_writer.write(UPGRADE.replace(b"/ws", b"/close") + b"\r\n")
        await asyncio.wait_for(closing.readuntil(struct.pack("!H", 1000)), PATIENCE_SECONDS)
        silent, silent_writer = await running.open()
        await running.until(lambda: running.counters.incomplete == 1)

    with pytest.raises(ConnectionClosedError) as caught:
        await asyncio.wait_for(client.recv(), PATIENCE_SECONDS)
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1012, "RESTARTING")
    response = await read_all(reader)
    assert (problem(response)["code"], b"retry-after: 1" in response) == ("RESTARTING", True)
    assert await read_all(silent) == b""
    assert await read_all(closing) == b""
    await close(writer)
    await close(closing_writer)
    await close(silent_writer)


async def test_who_answers_no_ping_is_told_to_come_back() -> None:
    """With 1013: 1011 would say that the bug is ours."""
    async with serving(ping_seconds=0.05, pong_seconds=0.1) as running:
        reader, writer = await running.open()
        writer.write(UPGRADE + b"\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(SWITCHED)
        frames = await read_all(reader)
        assert frames[:2] == b"\x89\x04", "a ping"
        assert frames[6:] == b"\x88\x0c" + struct.pack("!H", 1013) + b"OVERLOADED"
        await running.until(lambda: running.counters.connections == 0)
        await close(writer)


async def test_who_answers_pings_stays() -> None:
    async with (
        serving(ping_seconds=0.02, pong_seconds=0.5) as running,
        connect(f"ws://127.0.0.1:{running.port}/ws", proxy=None) as client,
    ):
        for number in range(20):
            await client.send(str(number))
            assert await client.recv() == str(number)
            await asyncio.sleep(0.02)  # some pings go by
        assert running.counters.websockets == 1


async def test_who_waits_for_a_busy_application_stays() -> None:
    """Its pongs stand behind the message that the application does not take."""
    async with serving(ping_seconds=0.02, pong_seconds=0.25) as running:
        running.app.is_busy = True
        async with connect(f"ws://127.0.0.1:{running.port}/ws", proxy=None) as client:
            await client.send("a")
            await client.send("b")
            await asyncio.sleep(1.0)  # several pings go by, and the time for their pongs
            running.app.reads.set()
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert [await client.recv(), await client.recv()] == ["a", "b"]
            await asyncio.sleep(0.5)
            assert running.counters.websockets == 1


async def test_who_is_gone_is_told_so_once_the_busy_application_has_read() -> None:
    async with serving(ping_seconds=0.05, pong_seconds=0.1) as running:
        reader, writer = await running.open()
        running.app.is_busy = True
        writer.write(UPGRADE + b"\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(SWITCHED)
        writer.write(b"\x81\x81\0\0\0\0a")
        await asyncio.sleep(0.5)
        assert running.counters.websockets == 1
        running.app.reads.set()
        assert (await read_all(reader)).endswith(struct.pack("!H", 1013) + b"OVERLOADED")
        await close(writer)
