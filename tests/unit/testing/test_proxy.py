"""Every fault, seen by a real HTTP client through real sockets, on new connections and on open ones."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from doorward.errors import UsageError
from doorward.testing import Fault, FaultKind, FaultProxy, eventually, no_leaks

BODY = b"x" * 1000
SHORT_SECONDS = 0.12
"""How long a client waits here before it may call a silent peer silent."""

BOUND_SECONDS = 5.0


class Upstream:
    """An echoing HTTP server that counts."""

    def __init__(self) -> None:
        self.requests = 0
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        await request.read()
        self.requests += 1
        return web.Response(body=BODY)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    server = Upstream()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.port = runner.addresses[0][1]
    yield server
    await runner.cleanup()


@pytest.fixture
async def proxy(upstream: Upstream) -> AsyncIterator[FaultProxy]:
    async with FaultProxy("127.0.0.1", upstream.port, seed=7) as running:
        yield running


@asynccontextmanager
async def client(total_seconds: float = BOUND_SECONDS) -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=total_seconds)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False) as session:
        yield session


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with client() as session:
        yield session


async def fetch(http: aiohttp.ClientSession, proxy: FaultProxy, **options: Any) -> tuple[int, bytes]:
    async with http.post(f"{proxy.url}/any", json={"token": "t"}, **options) as answer:
        return answer.status, await answer.read()


async def silent(http: aiohttp.ClientSession, proxy: FaultProxy) -> bool:
    """Whether nothing at all comes back for a while."""
    with pytest.raises(TimeoutError):
        await fetch(http, proxy, timeout=aiohttp.ClientTimeout(total=SHORT_SECONDS))
    return True


async def connects(proxy: FaultProxy) -> bool:
    try:
        async with asyncio.timeout(SHORT_SECONDS):
            _, writer = await asyncio.open_connection(proxy.host, proxy.port)
    except TimeoutError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def test_none_passes_everything_and_counts_it(
    proxy: FaultProxy, http: aiohttp.ClientSession, upstream: Upstream
) -> None:
    assert [await fetch(http, proxy) for _ in range(3)] == [(200, BODY)] * 3
    counts = proxy.counts
    assert (counts.connections, counts.requests, counts.forwarded, upstream.requests) == (1, 3, 3, 3)
    assert counts.bytes_to_clients > 3 * len(BODY)
    assert counts.bytes_from_clients > 3 * len(b'{"token":"t"}')


async def test_refuse_is_a_refusal_by_the_kernel_on_a_port_that_stays_ours(
    proxy: FaultProxy, http: aiohttp.ClientSession
) -> None:
    port = proxy.port
    proxy.fault = Fault.REFUSE
    with pytest.raises(aiohttp.ClientConnectorError) as caught:
        await fetch(http, proxy)
    assert isinstance(caught.value.os_error, ConnectionRefusedError)
    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind((proxy.host, port))
    proxy.fault = Fault.NONE
    assert proxy.port == port
    assert await fetch(http, proxy) == (200, BODY)


async def test_black_hole_never_answers_a_syn_and_heals(proxy: FaultProxy, http: aiohttp.ClientSession) -> None:
    proxy.fault = Fault.BLACK_HOLE
    assert not any(await asyncio.gather(*(connects(proxy) for _ in range(30))))
    waiting = asyncio.create_task(fetch(http, proxy))
    assert await asyncio.wait({waiting}, timeout=SHORT_SECONDS) == (set(), {waiting})
    assert proxy.counts.connections == 0
    proxy.fault = Fault.NONE
    assert await connects(proxy)
    assert await waiting == (200, BODY)


async def test_reset_is_an_rst(proxy: FaultProxy) -> None:
    proxy.fault = Fault.RESET
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), BOUND_SECONDS)
    writer.close()
    with pytest.raises(ConnectionResetError):
        await writer.wait_closed()
    assert proxy.counts.connections == 1


@pytest.mark.parametrize("fault", [Fault.SILENCE, Fault.TLS_STALL], ids=str)
async def test_silence_accepts_reads_and_never_answers(
    fault: Fault, proxy: FaultProxy, http: aiohttp.ClientSession, upstream: Upstream
) -> None:
    proxy.fault = fault
    assert await connects(proxy)
    assert await silent(http, proxy)
    assert proxy.counts.bytes_from_clients > 0
    assert (proxy.counts.forwarded, upstream.requests) == (0, 0)
    await eventually(lambda: proxy.open_connections == 0, what="a client that left is let go")


async def test_a_tls_client_stalls_in_its_handshake(proxy: FaultProxy) -> None:
    proxy.fault = Fault.TLS_STALL
    context = ssl.create_default_context()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SHORT_SECONDS):
            await asyncio.open_connection(proxy.host, proxy.port, ssl=context, server_hostname="auth.test")
    assert proxy.counts.bytes_from_clients > 100


async def test_header_stall_sends_a_status_line_and_a_header(proxy: FaultProxy) -> None:
    proxy.fault = Fault.HEADER_STALL
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    status = await asyncio.wait_for(reader.readline(), BOUND_SECONDS)
    header = await asyncio.wait_for(reader.readline(), BOUND_SECONDS)
    assert status.startswith(b"HTTP/1.1 200")
    assert b":" in header
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), SHORT_SECONDS)
    proxy.fault = Fault.NONE
    rest = await asyncio.wait_for(reader.readuntil(BODY), BOUND_SECONDS)
    assert b"\r\n\r\n" in rest
    writer.close()
    await writer.wait_closed()


async def test_drip_sends_a_byte_at_a_time(proxy: FaultProxy) -> None:
    loop = asyncio.get_running_loop()
    proxy.fault = Fault.drip(0.02)
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    started = loop.time()
    assert await asyncio.wait_for(reader.readexactly(11), BOUND_SECONDS) == b"HTTP/1.1 20"
    assert loop.time() - started >= 10 * 0.02 - 0.005
    assert proxy.counts.bytes_to_clients < 50
    proxy.fault = Fault.NONE
    await asyncio.wait_for(reader.readuntil(BODY), BOUND_SECONDS)
    writer.close()
    await writer.wait_closed()


async def test_truncate_sends_half_the_body_and_closes(proxy: FaultProxy, http: aiohttp.ClientSession) -> None:
    proxy.fault = Fault.TRUNCATE
    async with http.post(f"{proxy.url}/any", json={}) as answer:
        assert answer.status == 200
        assert answer.content_length == len(BODY)
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    assert len(BODY) // 2 <= proxy.counts.bytes_to_clients < len(BODY)


async def test_latency_delays_each_answer_and_no_more(proxy: FaultProxy, http: aiohttp.ClientSession) -> None:
    loop = asyncio.get_running_loop()
    proxy.fault = Fault.latency(0.15, jitter_seconds=0.05)
    for _ in range(2):
        started = loop.time()
        assert await fetch(http, proxy) == (200, BODY)
        assert 0.145 <= loop.time() - started < BOUND_SECONDS
    assert proxy.counts.connections == 1


async def test_stale_keep_alive_resets_the_second_request(
    proxy: FaultProxy, http: aiohttp.ClientSession, upstream: Upstream
) -> None:
    proxy.fault = Fault.STALE_KEEP_ALIVE
    assert await fetch(http, proxy) == (200, BODY)
    with pytest.raises(aiohttp.ClientOSError):
        await fetch(http, proxy)
    assert (upstream.requests, proxy.counts.requests) == (1, 2)


async def test_a_proxy_listens_on_ipv6_too(upstream: Upstream, http: aiohttp.ClientSession) -> None:
    async with FaultProxy("127.0.0.1", upstream.port, host="::1") as proxy:
        assert proxy.url.startswith("http://[::1]:")
        assert await fetch(http, proxy) == (200, BODY)
        proxy.fault = Fault.BLACK_HOLE
        assert not await connects(proxy)


async def test_an_upstream_that_is_gone_is_a_reset(http: aiohttp.ClientSession) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        async with FaultProxy("127.0.0.1", reserved.getsockname()[1]) as proxy:
            with pytest.raises(aiohttp.ClientOSError):
                await fetch(http, proxy)
            await eventually(lambda: proxy.open_connections == 0)


async def test_a_server_that_speaks_first_is_heard() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"INFO {}\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server, FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        assert await asyncio.wait_for(reader.read(), BOUND_SECONDS) == b"INFO {}\r\n"
        writer.close()
        await writer.wait_closed()


async def test_a_half_closed_client_still_gets_its_answer(proxy: FaultProxy) -> None:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.write(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
    assert await asyncio.wait_for(reader.readuntil(BODY), BOUND_SECONDS)
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), BOUND_SECONDS) == b""
    writer.close()
    await writer.wait_closed()


# --- canned answers -----------------------------------------------------------------------------------------------------


async def test_a_status_with_headers_comes_from_the_proxy_alone(
    proxy: FaultProxy, http: aiohttp.ClientSession, upstream: Upstream
) -> None:
    proxy.fault = Fault.status(503, b"{}", {"Retry-After": "7"})
    async with http.post(f"{proxy.url}/any", json={}) as answer:
        assert (answer.status, answer.headers["Retry-After"], await answer.read()) == (503, "7", b"{}")
    proxy.fault = Fault.status(599)
    assert (await fetch(http, proxy))[0] == 599
    assert (upstream.requests, proxy.counts.requests, proxy.counts.forwarded) == (0, 2, 0)


async def test_a_status_can_come_late(proxy: FaultProxy, http: aiohttp.ClientSession) -> None:
    loop = asyncio.get_running_loop()
    proxy.fault = Fault.status(401, delay_seconds=0.15)
    started = loop.time()
    assert (await fetch(http, proxy))[0] == 401
    assert loop.time() - started >= 0.145


async def test_a_body_is_sent_as_it_is(proxy: FaultProxy, http: aiohttp.ClientSession) -> None:
    for body in (b'{"valid": "true"}', b'{"valid": tr', b"\xff\x00junk"):
        proxy.fault = Fault.body(body)
        assert await fetch(http, proxy) == (200, body)


async def test_a_redirect_names_the_other_place(proxy: FaultProxy, http: aiohttp.ClientSession) -> None:
    proxy.fault = Fault.redirect("http://127.0.0.1:1/elsewhere")
    async with http.post(f"{proxy.url}/any", json={}, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (307, "http://127.0.0.1:1/elsewhere")


async def test_a_huge_body_has_its_length(proxy: FaultProxy, http: aiohttp.ClientSession) -> None:
    proxy.fault = Fault.huge_body(8 << 20)
    async with http.post(f"{proxy.url}/any", json={}) as answer:
        assert answer.content_length == (8 << 20) + 2
        assert await answer.content.readexactly(4) == b'"aaa'
        assert len(await answer.read()) == (8 << 20) - 2


async def test_a_huge_body_ends_when_the_client_leaves(proxy: FaultProxy, http: aiohttp.ClientSession) -> None:
    proxy.fault = Fault.huge_body(1 << 40)
    async with http.post(f"{proxy.url}/any", json={}) as answer:
        assert await answer.content.readexactly(1) == b'"'
        answer.close()
    await eventually(lambda: proxy.open_connections == 0)


async def test_a_gzip_bomb_is_small_on_the_wire(proxy: FaultProxy, http: aiohttp.ClientSession) -> None:
    proxy.fault = Fault.gzip_bomb(8 << 20)
    async with http.post(f"{proxy.url}/any", json={}) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        packed = await answer.read()
    assert len(packed) < 64 * 1024
    async with aiohttp.ClientSession() as unpacking:
        assert await fetch(unpacking, proxy) == (200, bytes(8 << 20))


async def test_nested_json_is_as_deep_as_it_says(proxy: FaultProxy, http: aiohttp.ClientSession) -> None:
    proxy.fault = Fault.nested_json(1000)
    assert await fetch(http, proxy) == (200, b"[" * 1000 + b"]" * 1000)


async def test_an_informational_flood_comes_before_the_answer(proxy: FaultProxy) -> None:
    proxy.fault = Fault.informational_flood(5000)
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    raw = await asyncio.wait_for(reader.read(1 << 20), BOUND_SECONDS)
    while more := await asyncio.wait_for(reader.read(1 << 20), BOUND_SECONDS):
        raw += more
    assert raw.count(b"HTTP/1.1 103 Early Hints\r\n\r\n") == 5000
    assert raw.rpartition(b"HTTP/1.1 200 OK\r\n")[2].endswith(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()


async def test_a_canned_answer_waits_for_the_whole_request(proxy: FaultProxy) -> None:
    proxy.fault = Fault.body(b"{}")
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\ncontent-length: 4\r\n\r\nab")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), SHORT_SECONDS)
    writer.write(b"cd")
    assert (await asyncio.wait_for(reader.read(), BOUND_SECONDS)).endswith(b"\r\n\r\n{}")
    writer.close()
    await writer.wait_closed()


# --- switching while connections are open -------------------------------------------------------------------------------


@pytest.fixture
async def kept_alive(proxy: FaultProxy, http: aiohttp.ClientSession) -> aiohttp.ClientSession:
    """A client with one idle connection through a healthy proxy."""
    assert await fetch(http, proxy) == (200, BODY)
    return http


@pytest.mark.parametrize("fault", [Fault.SILENCE, Fault.BLACK_HOLE, Fault.HEADER_STALL, Fault.drip(60)], ids=str)
async def test_an_open_connection_goes_quiet_and_is_answered_late_when_healed(
    fault: Fault, proxy: FaultProxy, kept_alive: aiohttp.ClientSession
) -> None:
    proxy.fault = fault
    late = asyncio.create_task(fetch(kept_alive, proxy))
    _, pending = await asyncio.wait({late}, timeout=SHORT_SECONDS)
    assert pending == {late}
    proxy.fault = Fault.NONE
    assert await late == (200, BODY)
    assert proxy.counts.connections == 1


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.REFUSE], ids=str)
async def test_an_open_connection_is_reset_at_once(fault: Fault, proxy: FaultProxy) -> None:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    await eventually(lambda: proxy.open_connections == 1)
    proxy.fault = fault
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), BOUND_SECONDS)
    writer.close()
    with pytest.raises(ConnectionResetError):
        await writer.wait_closed()
    await eventually(lambda: proxy.open_connections == 0)


@pytest.mark.parametrize("held", [Fault.SILENCE, Fault.HEADER_STALL, Fault.drip(60), Fault.latency(60)], ids=str)
async def test_a_request_that_hangs_is_reset_by_a_switch(
    held: Fault, proxy: FaultProxy, http: aiohttp.ClientSession
) -> None:
    proxy.fault = held
    hanging = asyncio.create_task(fetch(http, proxy))
    await eventually(lambda: proxy.counts.requests == 1)
    proxy.fault = Fault.RESET
    with pytest.raises(aiohttp.ClientError):
        await hanging


async def test_an_answer_under_way_stops_and_goes_on(proxy: FaultProxy) -> None:
    proxy.fault = Fault.drip(0.01)
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.wait_for(reader.readexactly(5), BOUND_SECONDS)
    proxy.fault = Fault.SILENCE
    sent = proxy.counts.bytes_to_clients
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readuntil(BODY), SHORT_SECONDS)
    assert proxy.counts.bytes_to_clients <= sent + 1
    proxy.fault = Fault.NONE
    await asyncio.wait_for(reader.readuntil(BODY), BOUND_SECONDS)
    writer.close()
    await writer.wait_closed()


async def test_an_answer_under_way_is_cut_by_truncate(proxy: FaultProxy) -> None:
    proxy.fault = Fault.drip(0.01)
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.wait_for(reader.readexactly(5), BOUND_SECONDS)
    proxy.fault = Fault.TRUNCATE
    assert len(await asyncio.wait_for(reader.read(), BOUND_SECONDS)) < len(BODY)
    writer.close()
    await writer.wait_closed()


async def test_tls_stall_leaves_connections_that_were_answered(
    proxy: FaultProxy, kept_alive: aiohttp.ClientSession
) -> None:
    proxy.fault = Fault.TLS_STALL
    assert await fetch(kept_alive, proxy) == (200, BODY)
    async with client() as newcomer:
        assert await silent(newcomer, proxy)


async def test_what_is_kept_alive_can_be_cut_and_what_is_asked_goes_on(
    proxy: FaultProxy, http: aiohttp.ClientSession
) -> None:
    async with client() as busy:
        for session in (busy, http):
            assert await fetch(session, proxy) == (200, BODY)
        proxy.fault = Fault.SILENCE
        asked = asyncio.create_task(fetch(busy, proxy))
        await eventually(lambda: proxy.counts.requests == 3)
        proxy.cut_idle()
        await eventually(lambda: proxy.open_connections == 1)
        proxy.fault = Fault.NONE
        assert await asked == (200, BODY)
        assert proxy.counts.connections == 2
    assert await fetch(http, proxy) == (200, BODY)
    assert proxy.counts.connections == 3


async def test_latency_ends_early_when_healed(proxy: FaultProxy, kept_alive: aiohttp.ClientSession) -> None:
    proxy.fault = Fault.latency(60)
    late = asyncio.create_task(fetch(kept_alive, proxy))
    await eventually(lambda: proxy.counts.forwarded == 2)
    proxy.fault = Fault.NONE
    assert await late == (200, BODY)


async def test_a_late_status_is_dropped_when_healed(proxy: FaultProxy, kept_alive: aiohttp.ClientSession) -> None:
    proxy.fault = Fault.status(500, delay_seconds=60)
    late = asyncio.create_task(fetch(kept_alive, proxy))
    await eventually(lambda: proxy.counts.requests == 2)
    proxy.fault = Fault.NONE
    assert await late == (200, BODY)


async def test_the_next_request_of_an_open_connection_gets_the_canned_answer(
    proxy: FaultProxy, kept_alive: aiohttp.ClientSession
) -> None:
    proxy.fault = Fault.status(500)
    assert (await fetch(kept_alive, proxy))[0] == 500
    proxy.fault = Fault.NONE
    assert await fetch(kept_alive, proxy) == (200, BODY)


async def test_flapping_ends_healthy(proxy: FaultProxy, http: aiohttp.ClientSession) -> None:
    for fault in (Fault.REFUSE, Fault.BLACK_HOLE, Fault.REFUSE, Fault.RESET, Fault.BLACK_HOLE, Fault.SILENCE) * 5:
        proxy.fault = fault
    proxy.fault = Fault.NONE
    assert await fetch(http, proxy) == (200, BODY)


# --- shares and seeds ---------------------------------------------------------------------------------------------------


async def test_a_share_strikes_its_part_and_the_seed_decides_which(upstream: Upstream) -> None:
    async def outcomes(seed: int) -> list[int]:
        fault = Fault.status(500).for_share(0.5)
        async with FaultProxy("127.0.0.1", upstream.port, seed=seed, fault=fault) as proxy, client() as http:
            return [(await fetch(http, proxy))[0] for _ in range(40)]

    first = await outcomes(1)
    assert first == await outcomes(1)
    assert first != await outcomes(2)
    assert 8 <= first.count(500) <= 32


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Fault.SILENCE.for_share(1.5),
        lambda: Fault.REFUSE.for_share(0.5),
        lambda: Fault.BLACK_HOLE.for_share(0.5),
        lambda: Fault(FaultKind.ANSWER),
    ],
)
def test_a_fault_that_cannot_be_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError):
        wrong()


# --- leaks --------------------------------------------------------------------------------------------------------------


EVERY_FAULT = [
    Fault.NONE,
    Fault.REFUSE,
    Fault.BLACK_HOLE,
    Fault.RESET,
    Fault.SILENCE,
    Fault.HEADER_STALL,
    Fault.DRIP,
    Fault.TRUNCATE,
    Fault.TLS_STALL,
    Fault.STALE_KEEP_ALIVE,
    Fault.latency(60),
    Fault.status(500),
    Fault.huge_body(1 << 40),
]


@pytest.mark.parametrize("fault", EVERY_FAULT, ids=str)
async def test_closing_leaves_no_task_and_no_file(fault: Fault, upstream: Upstream) -> None:
    async def burst(proxy: FaultProxy) -> None:
        async with client(0.1) as http:
            await asyncio.gather(*(fetch(http, proxy) for _ in range(20)), return_exceptions=True)

    async with FaultProxy("127.0.0.1", upstream.port) as warm_up:
        await burst(warm_up)
    async with no_leaks(), FaultProxy("127.0.0.1", upstream.port) as proxy:
        proxy.fault = fault
        await burst(proxy)


@pytest.mark.parametrize("fault", [Fault.SILENCE, Fault.HEADER_STALL, Fault.drip(60), Fault.latency(60)], ids=str)
async def test_a_client_that_leaves_is_let_go_while_the_fault_lasts(fault: Fault, proxy: FaultProxy) -> None:
    proxy.fault = fault
    async with client(BOUND_SECONDS) as http:
        asking = [asyncio.create_task(fetch(http, proxy)) for _ in range(20)]
        await eventually(lambda: proxy.counts.requests == 20, what="the proxy has read every request")
        for each in asking:
            each.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    await eventually(lambda: proxy.open_connections == 0, what="the proxy has let every client go")


async def test_closing_cuts_what_is_open(upstream: Upstream) -> None:
    started = asyncio.get_running_loop().time()
    async with FaultProxy("127.0.0.1", upstream.port, fault=Fault.SILENCE) as proxy:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        await eventually(lambda: proxy.open_connections == 1)
        with pytest.raises(UsageError):
            await proxy.start()
    assert await asyncio.wait_for(reader.read(), BOUND_SECONDS) == b""
    assert asyncio.get_running_loop().time() - started < BOUND_SECONDS
    writer.close()
    await writer.wait_closed()
