"""The transport against real sockets that behave, and that do not."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from doorward.adapters.bounded_response import MAX_HEAD_BYTES
from doorward.adapters.transport import MAX_BODY_BYTES, Caps, HttpTransport, tls_context
from doorward.core.deadline import Deadline
from doorward.errors import (
    BackendError,
    BadAnswer,
    ConfigError,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    PoolTimeout,
    ReadTimeout,
    ResolveError,
    TlsError,
)
from doorward.runtime.clock import SystemClock
from doorward.runtime.ports import Address
from doorward.runtime.resolver import Resolver
from doorward.testing import ThrowawayTls, eventually, throwaway_tls

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CAPS = Caps(connect_seconds=1.0, read_seconds=1.0, write_seconds=1.0, pool_seconds=0.2)
SECRET = "Basic c2VjcmV0LW9mLW91cnM="
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class ScriptedDns:
    """A `DnsClient` with fixed answers; unknown names fail, `hung` ones never answer."""

    def __init__(self, **names: Sequence[Address]) -> None:
        self.names = names

    async def query(self, host: str, *, deadline: Deadline) -> tuple[Sequence[Address], float]:
        if host == "hung":
            await asyncio.get_running_loop().create_future()
        if host not in self.names:
            raise ResolveError(f"{host}: no such name")
        return self.names[host], 60.0

    async def aclose(self) -> None: ...


class Server:
    """A raw TCP server that counts what is open, so that a leak shows."""

    def __init__(self) -> None:
        self.url = ""
        self.open = 0
        self.accepted = 0
        self.requests: list[bytes] = []

    @contextlib.asynccontextmanager
    async def run(self, serve: Serve, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
        tasks: set[asyncio.Task[Any]] = set()

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            self.open += 1
            self.accepted += 1
            try:
                await serve(reader, writer)
            except (OSError, EOFError, asyncio.CancelledError):
                pass
            finally:
                self.open -= 1
                writer.transport.abort()

        server = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=tls)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}/x?token=in-the-query"
        try:
            yield self
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=2)

    async def read_request(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        request = head + await reader.readexactly(length)
        self.requests.append(request)
        return request

    def answering(self, *parts: bytes, pause_seconds: float = 0.0) -> Serve:
        """Each request gets all parts; then the connection stays open."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await self.read_request(reader)
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(pause_seconds)

        return serve

    def answering_once(self, answer: bytes) -> Serve:
        """One answer, then the connection is closed."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.read_request(reader)
            writer.write(answer)
            await writer.drain()

        return serve


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def dns() -> ScriptedDns:
    return ScriptedDns()


@pytest.fixture
async def transport(dns: ScriptedDns) -> AsyncIterator[HttpTransport]:
    resolver = Resolver(dns, SystemClock(), tls=False)
    transport = HttpTransport(resolver, limit=4)
    yield transport
    await transport.aclose()
    await resolver.aclose()


async def ask(
    transport: HttpTransport, url: str, *, seconds: float = 2.0, caps: Caps = CAPS, limit: int = MAX_BODY_BYTES
) -> tuple[int, bytes]:
    deadline = Deadline.after(asyncio.get_running_loop().time(), seconds)
    answer = await transport.request(
        "POST",
        url,
        headers={"Authorization": SECRET, "Content-Type": "application/json"},
        body=b'{"token":"user-token"}',
        deadline=deadline,
        caps=caps,
        max_body_bytes=limit,
    )
    return answer.status, answer.body


def chain_of(error: BaseException) -> str:
    texts = []
    link: BaseException | None = error
    while link is not None:
        texts.append(f"{link!r} {link}")
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return " ".join(texts)


async def refused(transport: HttpTransport, url: str, kind: type[BackendError], **how: Any) -> BackendError:
    """The error, which must be of this very class, in time, and hold no secret."""
    started = asyncio.get_running_loop().time()
    with pytest.raises(BackendError) as caught:
        await ask(transport, url, **how)
    assert type(caught.value) is kind, repr(caught.value)
    assert asyncio.get_running_loop().time() - started < how.get("seconds", 2.0) + 0.5
    for secret in ("c2VjcmV0LW9mLW91cnM", "user-token", "in-the-query"):
        assert secret not in chain_of(caught.value)
    return caught.value


async def test_a_complete_answer_of_any_status_comes_back(transport: HttpTransport, server: Server) -> None:
    teapot = b"HTTP/1.1 418 I'm a teapot\r\nX-Is: Tea\r\nContent-Length: 5\r\n\r\nshort"
    async with server.run(server.answering(teapot)):
        assert await ask(transport, server.url) == (418, b"short")


async def test_what_is_sent_asks_for_no_encoding_and_no_cookie_is_kept(
    transport: HttpTransport, server: Server
) -> None:
    cookie = b"HTTP/1.1 200 OK\r\nSet-Cookie: session=1; Path=/\r\nContent-Length: 2\r\n\r\nok"
    async with server.run(server.answering(cookie)):
        await ask(transport, server.url)
        await ask(transport, server.url)
    second = server.requests[1].lower()
    assert b"accept-encoding: identity" in second
    assert b"cookie" not in second
    assert second.endswith(b'{"token":"user-token"}')


async def test_a_kept_alive_connection_is_used_again(transport: HttpTransport, server: Server) -> None:
    async with server.run(server.answering(OK)):
        for _ in range(5):
            await ask(transport, server.url)
        assert server.accepted == 1


async def test_environment_proxies_are_ignored(
    transport: HttpTransport, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with server.run(server.answering(OK)):
        assert (await ask(transport, server.url))[0] == 200


async def test_a_redirect_is_an_answer_and_is_not_followed(transport: HttpTransport, server: Server) -> None:
    redirect = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    async with server.run(server.answering(redirect)):
        assert (await ask(transport, server.url))[0] == 307
    assert len(server.requests) == 1


async def test_refused(transport: HttpTransport) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        await refused(transport, f"http://127.0.0.1:{unused.getsockname()[1]}/", ConnectError)


async def test_a_black_hole_ends_at_the_connect_cap(transport: HttpTransport) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = [socket.socket() for _ in range(8)]
        try:
            for other in others:
                other.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    other.connect(full.getsockname())
            caps = Caps(connect_seconds=0.3, read_seconds=5, write_seconds=5, pool_seconds=5, address_seconds=0.2)
            await refused(
                transport, f"http://127.0.0.1:{full.getsockname()[1]}/", ConnectTimeout, caps=caps, seconds=0.5
            )
        finally:
            for other in others:
                other.close()


async def test_the_next_address_is_tried(transport: HttpTransport, server: Server, dns: ScriptedDns) -> None:
    dns.names = {"auth.test": [Address("127.0.0.2", socket.AF_INET), Address("127.0.0.1", socket.AF_INET)]}
    async with server.run(server.answering(OK)):
        status, _ = await ask(transport, server.url.replace("127.0.0.1", "auth.test"))
        assert status == 200
    assert b"Host: auth.test:" in server.requests[0]


async def test_an_unknown_name(transport: HttpTransport) -> None:
    await refused(transport, "http://nowhere.test/", ResolveError)


async def test_a_hung_name_server(transport: HttpTransport) -> None:
    await refused(transport, "http://hung/", ResolveError, seconds=0.3)


async def test_accepted_then_silence(transport: HttpTransport, server: Server) -> None:
    async with server.run(silence):
        await refused(transport, server.url, ReadTimeout, seconds=0.3)
        await eventually(lambda: server.open == 0)


async def test_the_read_cap_bites_where_the_deadline_is_far(transport: HttpTransport, server: Server) -> None:
    async with server.run(silence):
        caps = Caps(connect_seconds=5, read_seconds=0.2, write_seconds=5, pool_seconds=5)
        started = asyncio.get_running_loop().time()
        await refused(transport, server.url, ReadTimeout, caps=caps, seconds=20)
        assert asyncio.get_running_loop().time() - started < 1


async def test_a_drip_ends_at_the_deadline(transport: HttpTransport, server: Server) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    async with server.run(server.answering(head, *[b"x"] * 1000, pause_seconds=0.02)):
        await refused(transport, server.url, ReadTimeout, seconds=0.4)


async def test_a_header_drip_ends_at_the_deadline(transport: HttpTransport, server: Server) -> None:
    async with server.run(server.answering(b"HTTP/1.1 200 OK\r\n", *[b"X"] * 1000, pause_seconds=0.02)):
        await refused(transport, server.url, ReadTimeout, seconds=0.4)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(b"", ConnectionLost, id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", ConnectionLost, id="half a head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", ConnectionLost, id="half a body"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", ConnectionLost, id="half a chunk"
        ),
        pytest.param(b"SSH-2.0-OpenSSH_9.2 user-token\r\n\r\n", BadAnswer, id="not HTTP"),
        pytest.param(b"HTTP/1.1 200 OK\r\nuser-token\r\n\r\n", BadAnswer, id="a bad header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 9000 + b"\r\n\r\n", BadAnswer, id="a long header"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n", BadAnswer, id="many headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: yyyyyyyy\r\n" * 100_000 + b"\r\n", BadAnswer, id="1 MB of headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n", BadAnswer, id="a huge body, announced"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b", BadAnswer, id="gzip"
        ),
    ],
)
async def test_broken_answers(
    transport: HttpTransport, server: Server, answer: bytes, kind: type[BackendError]
) -> None:
    async with server.run(server.answering_once(answer)):
        await refused(transport, server.url, kind)
        await eventually(lambda: server.open == 0)


async def test_an_answer_as_long_as_allowed_is_read_and_one_byte_more_is_not(
    transport: HttpTransport, server: Server
) -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"  # no length: only counting can tell
    async with server.run(server.answering_once(head + b"x" * 1000)):
        assert len((await ask(transport, server.url, limit=1000))[1]) == 1000
        await refused(transport, server.url, BadAnswer, limit=999)


async def test_an_endless_body_is_cut(transport: HttpTransport, server: Server) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with server.run(serve):
        await refused(transport, server.url, BadAnswer)
        await eventually(lambda: server.open == 0)


async def test_a_flood_of_interim_answers_is_cut_and_starves_nobody(transport: HttpTransport, server: Server) -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await server.read_request(reader)
        flood = b"HTTP/1.1 100 Continue\r\n\r\n" * 4_000
        while True:
            writer.write(flood)
            sent += len(flood)
            await writer.drain()

    async with server.run(serve):
        await refused(transport, server.url, BadAnswer)
        await eventually(lambda: server.open == 0)
    assert sent < 32 * 1024 * 1024


async def test_a_few_interim_answers_are_skipped(transport: HttpTransport, server: Server) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with server.run(server.answering(interim * 3 + OK)):
        assert await ask(transport, server.url) == (200, b"ok")


async def test_a_body_that_comes_with_a_long_head_is_whole(transport: HttpTransport, server: Server) -> None:
    """The head's bound must not cut into the body, wherever the bytes fall."""
    size = MAX_HEAD_BYTES + 4000
    answer = b"HTTP/1.1 200 OK\r\nX: " + b"y" * 8000 + b"\r\nContent-Length: %d\r\n\r\n" % size + b"z" * size
    async with server.run(server.answering(answer)):
        for _ in range(3):
            assert await ask(transport, server.url) == (200, b"z" * size)
    assert server.accepted == 1


async def test_an_answer_nobody_asked_for_is_never_given_to_the_next(transport: HttpTransport, server: Server) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother")
        await reader.read(-1)

    async with server.run(serve):
        assert await ask(transport, server.url) == (200, b"ok")
        await eventually(lambda: server.open == 0)
        assert await ask(transport, server.url) == (200, b"ok")
    assert server.accepted == 2


async def test_a_request_is_lost_on_a_kept_connection_that_is_closing_and_not_on_one_of_its_own(
    transport: HttpTransport, server: Server, dns: ScriptedDns
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(OK)
        await server.read_request(reader)  # and then closes instead of answering

    alone = HttpTransport(Resolver(dns, SystemClock(), tls=False), limit=4, keeps=False)
    try:
        async with server.run(serve):
            await ask(transport, server.url)
            await refused(transport, server.url, ConnectionLost)
            for _ in range(3):
                assert await ask(alone, server.url) == (200, b"ok")
            assert server.accepted == 4
    finally:
        await alone.aclose()


async def test_a_full_pool_is_a_pool_timeout(transport: HttpTransport, server: Server) -> None:
    async with server.run(silence):
        holders = [asyncio.create_task(ask(transport, server.url, seconds=5)) for _ in range(4)]
        await eventually(lambda: server.open == 4)
        await refused(transport, server.url, PoolTimeout, seconds=5)
        for holder in holders:
            holder.cancel()
        await asyncio.wait(holders)


@pytest.mark.parametrize("behaviour", ["silence", "drip"])
async def test_the_pool_recovers_from_cancelled_calls(transport: HttpTransport, server: Server, behaviour: str) -> None:
    """100 calls cancelled at random moments; the fifth of them would already fill a pool that leaks."""
    chance = random.Random(7)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    healthy = False

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if healthy:
            await server.answering(OK)(reader, writer)
        elif behaviour == "drip":
            await server.answering(head, *[b"x"] * 50, pause_seconds=0.001)(reader, writer)
        else:
            await silence(reader, writer)

    async with server.run(serve):
        for _ in range(25):
            calls = [asyncio.create_task(ask(transport, server.url)) for _ in range(4)]
            for call in calls:
                asyncio.get_running_loop().call_later(chance.uniform(0, 0.02), call.cancel)
            await asyncio.wait(calls)
            assert all(call.cancelled() for call in calls)
        await eventually(lambda: server.open == 0)
        healthy = True
        answers = await asyncio.gather(*(ask(transport, server.url) for _ in range(4)))
        assert answers == [(200, b"ok")] * 4


async def test_no_descriptor_is_left_behind(server: Server, dns: ScriptedDns) -> None:
    async def open_use_close() -> None:
        resolver = Resolver(dns, SystemClock(), tls=False)
        transport = HttpTransport(resolver, limit=4)
        async with server.run(server.answering(OK)):
            await asyncio.gather(*(ask(transport, server.url) for _ in range(4)))
            await transport.aclose()
            await resolver.aclose()
            await eventually(lambda: server.open == 0)

    await open_use_close()  # a loop opens some of its own the first time
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        await open_use_close()
    gc.collect()
    await eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)


def connections_to(url: str) -> int:
    """How many sockets of this machine that somebody still holds have this server as their peer."""
    peer = f":{URL(url).port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(peer) and row[9] != "0" for row in rows)


async def test_a_closed_transport_and_a_passed_deadline_are_backend_errors(
    transport: HttpTransport, server: Server
) -> None:
    async with server.run(server.answering(OK)):
        await refused(transport, server.url, ConnectTimeout, seconds=0.0)
        await transport.aclose()
        await refused(transport, server.url, ConnectTimeout)
    assert server.accepted == 0


@pytest.fixture(scope="module")
def tls() -> ThrowawayTls:
    return throwaway_tls(["auth.test"])


@pytest.fixture
def ca_file(tls: ThrowawayTls, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(tls.ca_pem)
    return path


class TestTls:
    async def test_a_private_ca_is_trusted_and_a_stranger_is_not(
        self, server: Server, dns: ScriptedDns, tls: ThrowawayTls, ca_file: Path
    ) -> None:
        dns.names = {"auth.test": [Address("127.0.0.1", socket.AF_INET)]}
        resolver = Resolver(dns, SystemClock(), tls=True)
        trusting = HttpTransport(resolver, limit=4, tls=await tls_context(ca_file))
        wary = HttpTransport(resolver, limit=4, tls=await tls_context(None))
        async with server.run(server.answering(OK), tls=tls.server):
            url = server.url.replace("127.0.0.1", "auth.test")
            assert await ask(trusting, url) == (200, b"ok")
            await refused(wary, url, TlsError)
            await refused(trusting, server.url, TlsError)  # the address is not a name in the certificate
            await trusting.aclose()
            await wary.aclose()

    async def test_a_stalled_handshake_ends_in_time_and_is_cut(
        self, server: Server, dns: ScriptedDns, tls: ThrowawayTls, ca_file: Path
    ) -> None:
        transport = HttpTransport(Resolver(dns, SystemClock(), tls=True), limit=4, tls=await tls_context(ca_file))
        async with server.run(silence):
            url = server.url.replace("http://", "https://")
            await refused(transport, url, ConnectTimeout, seconds=0.3)
            await eventually(lambda: server.open == 0)
        await transport.aclose()

    async def test_an_abandoned_call_does_not_linger_for_a_polite_goodbye(
        self, server: Server, dns: ScriptedDns, tls: ThrowawayTls, ca_file: Path
    ) -> None:
        """A frozen peer never answers `close_notify`; its connections must not pile up outside of the pool."""
        dns.names = {"auth.test": [Address("127.0.0.1", socket.AF_INET)]}
        transport = HttpTransport(Resolver(dns, SystemClock(), tls=True), limit=4, tls=await tls_context(ca_file))
        thawed = asyncio.Event()

        async def freeze(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            ours: Any = writer.transport
            ours.pause_reading()
            await thawed.wait()

        async with server.run(freeze, tls=tls.server):
            url = server.url.replace("127.0.0.1", "auth.test")
            await refused(transport, url, ReadTimeout, seconds=0.5)
            await eventually(lambda: connections_to(server.url) == 0, within_seconds=2)
            thawed.set()
        await transport.aclose()

    async def test_a_bad_ca_file_names_the_setting(self, tmp_path: Path) -> None:
        (tmp_path / "ca.pem").write_text("not a certificate")
        with pytest.raises(ConfigError, match=r"auth\.ca_file"):
            await tls_context(tmp_path / "ca.pem")
        with pytest.raises(ConfigError, match=r"auth\.ca_file"):
            await tls_context(tmp_path / "missing.pem")
