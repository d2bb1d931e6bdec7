"""Where a request ends, on real sockets: what one client sends as the body of a request is never read as another request."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from doorward.asgi.opening import Cut, OpeningCounters, OpeningPolicy
from doorward.asgi.types import Receive, Scope, Send
from doorward.cli.server import Server, bind
from doorward.core.deadline import Deadline

PATIENCE_SECONDS = 5.0
OTHER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
FRAMINGS = [
    pytest.param(b"Content-Length: %d\r\n" % len(SMUGGLED), SMUGGLED, id="content-length"),
    pytest.param(
        b"Transfer-Encoding: chunked\r\n", b"%x\r\n%b\r\n0\r\nX-T: a\r\n\r\n" % (len(SMUGGLED), SMUGGLED), id="chunked"
    ),
]


def post(*fields: bytes) -> bytes:
    return b"POST /first HTTP/1.1\r\nHost: a\r\n" + b"".join(fields) + b"\r\n"


@dataclass
class App:
    """Answers with what it was given; knows the paths that it was asked for."""

    paths: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return
        self.paths.append(scope["path"])
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        headers = [[name.decode(), value.decode()] for name, value in scope["headers"]]
        said = json.dumps({"path": scope["path"], "body": body.decode(), "headers": headers}).encode()
        length = (b"content-length", b"%d" % len(said))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": said})


@dataclass
class Client:
    """One connection to the app."""

    app: App
    counters: OpeningCounters
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter

    async def send(self, *parts: bytes) -> None:
        """Each part in a read of its own, as far as the machine plays along."""
        for part in parts:
            self._writer.write(part)
            await asyncio.sleep(0.001)

    async def answer(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = await self._reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            said: dict[str, Any] = json.loads(await self._reader.readexactly(length))
        return said

    async def rest(self) -> bytes:
        """What comes until the server ends the connection, however it does."""
        received = b""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while piece := await self._reader.read(65_536):
                    received += piece
        return received


@asynccontextmanager
async def connected(**bounds: Any) -> AsyncIterator[Client]:
    app, counters = App(), OpeningCounters()
    server = Server(app, opening=OpeningPolicy(**bounds), counters=counters)
    with contextlib.closing(bind("127.0.0.1", 0, "serve")) as listener:
        await server.start(listener)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.getsockname()[1], limit=2**22)
            try:
                yield Client(app, counters, reader, writer)
            finally:
                writer.transport.abort()
        finally:
            await server.stop(Deadline.after(asyncio.get_running_loop().time(), PATIENCE_SECONDS))


# Another protocol than WebSocket: a request as any other (RFC 9110, section 7.8)


@pytest.mark.parametrize(("framing", "body"), FRAMINGS)
async def test_a_request_for_another_protocol_has_its_body_wherever_the_reads_end(framing: bytes, body: bytes) -> None:
    request = post(framing, OTHER) + body
    async with connected() as client:
        for end in range(1, len(request) + 1):
            await client.send(request[:end], request[end:])
            answer = await client.answer()
            assert (answer["path"], answer["body"]) == ("/first", SMUGGLED.decode()), end
        await client.send(*(request[at : at + 1] for at in range(len(request))))
        assert (await client.answer())["body"] == SMUGGLED.decode()
        assert set(client.app.paths) == {"/first"}
        assert (client.counters.malformed, client.counters.cut.total()) == (0, 0)


async def test_the_application_sees_the_header_as_it_was_sent() -> None:
    fields = b"X-Empty:\r\nX-A: 1\r\nx-a:\t2 \r\nX-B: \xc3\xa9\r\nContent-Length: 0\r\n"
    async with connected() as client:
        await client.send(post(OTHER, fields))
        assert (await client.answer())["headers"] == [
            ["host", "a"],
            ["connection", "Upgrade, HTTP2-Settings"],
            ["upgrade", "h2c"],
            ["http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA"],
            ["x-empty", ""],
            ["x-a", "1"],
            ["x-a", "2"],
            ["x-b", "é"],
            ["content-length", "0"],
        ]


@pytest.mark.parametrize(
    "asks",
    [
        pytest.param(OTHER, id="h2c"),
        pytest.param(b"Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n", id="TLS"),
        pytest.param(b"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n", id="one of two"),
        pytest.param(b"Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n", id="two fields"),
        pytest.param(b"Connection: Upgrade\r\nConnection: keep-alive\r\nUpgrade: websocket\r\n", id="two connections"),
        pytest.param(b"Connection: Upgrade\r\nUpgrade:\r\n", id="for nothing"),
        pytest.param(b"Upgrade: websocket\r\n", id="no connection"),
        pytest.param(b"Connection: Upgrade\r\n", id="no upgrade"),
    ],
)
async def test_what_is_pipelined_behind_it_is_served_in_order(asks: bytes) -> None:
    bodies = [b"one", b"", b"three"]
    requests = [post(asks, b"Content-Length: %d\r\n" % len(body)) + body for body in bodies]
    async with connected() as client:
        await client.send(b"".join([*requests, post(asks), b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"]))
        assert [(await client.answer())["body"] for _ in range(4)] == ["one", "", "three", ""]
        assert (await client.answer())["path"] == "/next"
        await client.send(b"GET /later HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.answer())["path"] == "/later"


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_the_connection_ends_where_the_client_says_so(version: bytes) -> None:
    asks = b"Connection: close, Upgrade\r\nUpgrade: h2c\r\n" if version == b"1.1" else OTHER
    async with connected() as client:
        await client.send(post(asks, b"Content-Length: 3\r\n").replace(b"/1.1", b"/" + version), b"one" + SMUGGLED)
        assert (await client.answer())["body"] == "one"
        assert await client.rest() == b""


async def test_it_may_wait_for_100_continue() -> None:
    async with connected() as client:
        await client.send(post(OTHER, b"Expect: 100-continue\r\nContent-Length: 3\r\n"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await client._reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"one")
        assert (await client.answer())["body"] == "one"


async def test_a_read_full_of_them_takes_no_stack() -> None:
    requests = 2_000
    async with connected() as client:
        await client.send(post(b"Connection: Upgrade\r\nUpgrade: h2c\r\n") * requests)
        for _ in range(requests):
            assert (await client.answer())["path"] == "/first"


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(b"Transfer-Encoding: gzip\r\n", id="a body without an end"),
        pytest.param(b"Content-Length: 3\r\nContent-Length: 4\r\n", id="two lengths"),
        pytest.param(b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", id="length and chunked"),
    ],
)
async def test_a_body_whose_end_is_not_clear_ends_the_connection(wrong: bytes) -> None:
    async with connected() as client:
        await client.send(post(OTHER, wrong), SMUGGLED)
        assert b" 200 OK" not in await client.rest()
        assert "/smuggled" not in client.app.paths


async def test_its_header_is_counted_once() -> None:
    async with connected(max_headers=8, max_header_bytes=300) as client:
        await client.send(post(OTHER, b"X-A: %b\r\n" % (b"a" * 100), b"Content-Length: 3\r\n"), b"one")
        assert (await client.answer())["body"] == "one"
        await client.send(post(OTHER, b"X-A: %b\r\n" % (b"a" * 300)))
        assert (await client.rest()).startswith(b"HTTP/1.1 431 ")


# WebSocket, and CONNECT


@pytest.mark.parametrize("apart", [False, True], ids=["in one read", "apart"])
@pytest.mark.parametrize(("framing", "body"), FRAMINGS)
async def test_a_handshake_with_a_body_ends_the_connection(framing: bytes, body: bytes, apart: bool) -> None:
    head = b"GET /ws HTTP/1.1\r\nHost: a\r\n" + framing + WEBSOCKET + b"\r\n"
    async with connected() as client:
        await client.send(*([head, body] if apart else [head + body]))
        received = await client.rest()
        assert received == b"" or (received.startswith(b"HTTP/1.1 400 ") and received.count(b"HTTP/1.1") == 1)
        assert client.app.paths == []


@pytest.mark.parametrize("target", [b"a:443", b"/first", b"http://a/first"])
async def test_nothing_is_read_behind_a_connect(target: bytes) -> None:
    async with connected() as client:
        await client.send(
            b"CONNECT %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (target, len(SMUGGLED)), SMUGGLED
        )
        received = await client.rest()
        assert received.startswith(b"HTTP/1.1 400 ")
        assert received.count(b"HTTP/1.1") == 1
        assert client.app.paths == []


# Trailers (RFC 9110, section 6.5)


async def test_trailers_are_no_headers() -> None:
    chunks = b"2\r\nhi\r\n0\r\nAuthorization: Bearer x\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n"
    request = post(b"X-Forwarded-For: 203.0.113.9\r\nTransfer-Encoding: chunked\r\n") + chunks
    seen = [["host", "a"], ["x-forwarded-for", "203.0.113.9"], ["transfer-encoding", "chunked"]]
    async with connected() as client:
        await client.send(request, request[:-20], request[-20:])
        for _ in range(2):
            answer = await client.answer()
            assert (answer["headers"], answer["body"]) == (seen, "hi")


@pytest.mark.parametrize("line", [b"X-A: b\r\n" * 10, b"X-A: %b\r\n" % (b"a" * 4_000)], ids=["many", "long"])
async def test_trailers_and_headers_have_one_limit(line: bytes) -> None:
    async with connected() as client:
        await client.send(post(b"Transfer-Encoding: chunked\r\n", line * 10), b"2\r\nhi\r\n0\r\n" + line * 2 + b"\r\n")
        assert (await client.answer())["body"] == "hi"
        await client.send(post(b"Transfer-Encoding: chunked\r\n", line * 10), b"2\r\nhi\r\n0\r\n" + line * 8 + b"\r\n")
        assert await client.rest() == b""
        assert client.counters.headers_too_large == 1
        assert client.counters.cut == {Cut.PIPELINED: 1}
