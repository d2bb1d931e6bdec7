"""The door behind the proxies of `deploy/`: the files that docs/how-to/behind-a-proxy.md shows, with real TLS and real clients."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from tests.door_client import opened
from tests.door_server import BEARER, RunningDoor, running_door
from tests.proxies import KINDS, PREFIX, Proxy, proxy
from websockets.exceptions import ConnectionClosed, InvalidStatus

from doorward.asgi.opening import OpeningCounters, OpeningPolicy
from doorward.asgi.types import Receive, Scope, Send
from doorward.cli.server import Server, bind
from doorward.core.deadline import Deadline
from doorward.drill.peers import free_port
from doorward.testing import eventually, opaque_token
from doorward.web.pages import web_routes

TRUSTING: dict[str, Any] = {"trusted_proxies": ("127.0.0.1",), "protect_http": ("/api/*",)}
PATIENCE_SECONDS = 10.0
ADA, BOB = "127.0.0.5", "127.0.0.6"
"""Where two clients come from; the proxy itself is 127.0.0.1."""

KEEP_OPEN_SECONDS = 5.0


class App:
    """A socket that echoes, an event stream that waits between two events, and the pages."""

    def __init__(self) -> None:
        self.seen: list[Mapping[str, Any]] = []
        self.next_event = asyncio.Event()
        self.asgi = Starlette(
            routes=[WebSocketRoute("/ws", self._echo), Route("/api/stream", self._stream), *web_routes()]
        )

    async def _echo(self, ws: WebSocket) -> None:
        self.seen.append(dict(ws.scope, headers=dict(ws.headers)))
        await ws.accept("doorward.v1" if "doorward.v1" in ws.scope["subprotocols"] else None)
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await ws.send_json({"text": await ws.receive_text()})

    async def _stream(self, _: Request) -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            yield "data: one\n\n"
            await self.next_event.wait()
            yield "data: two\n\n"
            await asyncio.Event().wait()

        return StreamingResponse(events(), media_type="text/event-stream")


class Site:
    """The door behind one proxy, as its clients see it."""

    def __init__(self, proxy: Proxy, running: RunningDoor, app: App) -> None:
        self.proxy = proxy
        self.running = running
        self.app = app

    def connect(
        self, token: str | None = None, *, path: str = "/ws", come_from: str = ADA, **options: Any
    ) -> websockets.connect:
        headers = dict(options.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return websockets.connect(
            f"wss://{self.proxy.authority}{PREFIX}{path}",
            host="127.0.0.1",
            ssl=self.proxy.tls,
            local_addr=(come_from, 0),
            additional_headers=headers,
            proxy=None,
            open_timeout=PATIENCE_SECONDS,
            **options,
        )

    def page(self, token: str, **options: Any) -> websockets.connect:
        """A client of ours in a browser that has the page from here."""
        protocols = [websockets.Subprotocol("doorward.v1"), websockets.Subprotocol(BEARER + token)]
        return self.connect(origin=websockets.Origin(self.proxy.origin), subprotocols=protocols, **options)

    async def refused(self, token: str | None = None, **options: Any) -> tuple[int, dict[str, Any], Mapping[str, str]]:
        with pytest.raises(InvalidStatus) as caught:
            await self.connect(token, **options)
        response = caught.value.response
        is_ours = response.headers.get("content-type") == "application/problem+json"
        return response.status_code, json.loads(bytes(response.body or b"")) if is_ours else {}, response.headers

    def http(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(self.proxy.origin, connector=aiohttp.TCPConnector(ssl=self.proxy.tls))


@asynccontextmanager
async def site(
    kind: str, tmp_path: Path, instead: Mapping[str, str] | None = None, **settings: Any
) -> AsyncIterator[Site]:
    app, folder = App(), tmp_path / kind
    folder.mkdir()
    async with (
        running_door(tmp_path, app=app.asgi, **{**TRUSTING, **settings}) as running,
        proxy(kind, f"127.0.0.1:{running.port}", folder, instead) as before,
    ):
        await running.settled()
        yield Site(before, running, app)


each_proxy = pytest.mark.parametrize("kind", KINDS)


@each_proxy
async def test_a_page_gets_in_and_reads_why_it_must_go(kind: str, tmp_path: Path) -> None:
    async with site(kind, tmp_path) as it:
        token = it.running.auth.issue("ada")
        async with opened(it.page(encoded(token))) as page:
            assert page.client.subprotocol == "doorward.v1"
            await page.frame(notice="auth.assurance")
            await page.ask("hello")
            (seen,) = it.app.seen
            assert seen["path"] == "/ws"
            assert seen["headers"]["host"] == it.proxy.authority
            assert token not in str(seen["headers"])
            it.running.auth.revoke(user_id="ada")
            assert (await page.frame(type="auth.error"))["code"] == "TOKEN_REVOKED"
            code, reason = await page.closed()
            assert (code, reason.partition(";")[0]) == (3000, "TOKEN_REVOKED")
        async with opened(it.page(encoded(opaque_token()))) as page:
            assert (await page.frame(type="auth.error"))["code"] == "TOKEN_REJECTED"
            code, reason = await page.closed()
            assert (code, reason.partition(";")[0]) == (3000, "TOKEN_REJECTED")
        status, problem, _ = await it.refused(token, origin=websockets.Origin("https://evil.example"))
        assert (status, problem["code"]) == (403, "ORIGIN_DENIED")


@each_proxy
async def test_a_program_reads_problem_details(kind: str, tmp_path: Path) -> None:
    async with site(kind, tmp_path, deadline_seconds=1.0) as it:
        status, problem, headers = await it.refused()
        assert (status, problem["code"]) == (401, "AUTH_REQUIRED")
        assert headers["content-type"] == "application/problem+json"
        assert headers["www-authenticate"] == "Bearer"
        it.running.auth.latency_seconds = 3.0
        status, problem, headers = await it.refused(opaque_token())
        assert (status, problem["code"], problem["cause"]) == (503, "SERVICE_UNAVAILABLE", "deadline")
        assert int(headers["retry-after"]) >= 1
        status, _, _ = await it.refused(headers={"Cookie": "c=" + "c" * 9_000})
        assert status in {400, 431}, "by the proxy, or by the door"
        status, _, _ = await it.refused(headers={f"X-{number}": "a" for number in range(200)})
        assert status in {400, 431}


@each_proxy
async def test_who_the_client_is_is_the_proxys_word_and_not_the_clients(kind: str, tmp_path: Path) -> None:
    limits = {"address_rate_per_second": 0.001, "address_burst": 2}
    async with site(kind, tmp_path, limits=limits) as it:
        token = it.running.auth.issue("ada")
        origin = websockets.Origin(it.proxy.origin)
        for number in range(2):
            spoofed = {
                "X-Forwarded-For": f"203.0.113.{number}",
                "X-Forwarded-Proto": "http",
                "Forwarded": "for=10.0.0.1",
            }
            async with it.connect(token, headers=spoofed, origin=origin):
                pass
        status, problem, _ = await it.refused(token, headers={"X-Forwarded-For": "203.0.113.99"})
        assert (status, problem["code"]) == (429, "RATE_LIMITED")
        (address,) = {record.address for record in it.running.records}
        assert address == ADA
        forwarded = [seen["headers"]["x-forwarded-for"].rpartition(",") for seen in it.app.seen]
        assert [last.strip() for _, _, last in forwarded] == [ADA, ADA]
        async with it.connect(token, come_from=BOB):
            assert it.running.records[-1].address == BOB


@each_proxy
async def test_an_event_goes_out_when_it_comes_and_the_pages_are_under_the_path(kind: str, tmp_path: Path) -> None:
    async with site(kind, tmp_path) as it, it.http() as http:
        bearer = {"Authorization": f"Bearer {it.running.auth.issue('ada')}"}
        async with http.get(f"{PREFIX}/api/stream") as answer:
            assert (answer.status, (await answer.json(content_type=None))["code"]) == (401, "AUTH_REQUIRED")
        async with http.get(f"{PREFIX}/api/stream", headers=bearer) as answer, asyncio.timeout(PATIENCE_SECONDS):
            assert await answer.content.readuntil(b"\n\n") == b"data: one\n\n"
            it.app.next_event.set()
            assert await answer.content.readuntil(b"\n\n") == b"data: two\n\n"
            it.running.auth.revoke(user_id="ada")
            assert b'"code":"TOKEN_REVOKED"' in await answer.content.read()
        async with http.get(PREFIX) as answer:
            assert answer.url.path == f"{PREFIX}/"
            named = re.findall(r'(?:src|href)="(static/[^"]+)"', await answer.text())
        async with http.get(f"{PREFIX}/ops/") as answer:
            assert answer.url.path == f"{PREFIX}/ops"
        assert named
        for name in named:
            async with http.get(f"{PREFIX}/{name}") as answer:
                assert answer.status == 200


@each_proxy
async def test_half_a_handshake_stays_with_the_proxy(kind: str, tmp_path: Path) -> None:
    (tmp_path / kind).mkdir()
    async with (
        running_door(tmp_path) as running,
        proxy(kind, f"127.0.0.1:{running.port}", tmp_path / kind, {"5s": "1s"}) as before,
    ):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", before.port, ssl=before.tls, server_hostname="localhost"
        )
        writer.write(b"GET /chat/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n")
        async with asyncio.timeout(PATIENCE_SECONDS):
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()
        assert running.connections == 0


# Where a request ends

PASSES_ON_ANY_UPGRADE = {
    "nginx": {"default   '';": "default $http_upgrade;"},
    "caddy": {"request_header @other -Upgrade": ""},
}


@pytest.mark.parametrize(
    ("kind", "as_shipped"), [*((kind, True) for kind in KINDS), *((kind, False) for kind in PASSES_ON_ANY_UPGRADE)]
)
async def test_nobody_gets_the_answer_to_anothers_body(kind: str, as_shipped: bool, tmp_path: Path) -> None:
    """Both clients share a connection between proxy and door."""
    seen: list[tuple[str, bytes | None]] = []
    has_asked = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        seen.append((scope["path"], dict(scope["headers"]).get(b"upgrade")))
        while (await receive()).get("more_body"):
            pass
        if scope["path"] == "/smuggled":
            await has_asked.wait()
        elif scope["path"] == "/attack":
            await asyncio.sleep(0.3)  # until the proxy has given away the whole body
        said = b"answer to " + scope["path"].encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(said))]})
        await send({"type": "http.response.body", "body": said})

    body = b"\r\n" * 300_000 + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"  # more than fits into one read
    instead = {} if as_shipped else PASSES_ON_ANY_UPGRADE[kind]
    (tmp_path / kind).mkdir()
    async with (
        running_door(tmp_path, app=app) as running,
        proxy(kind, f"127.0.0.1:{running.port}", tmp_path / kind, instead) as before,
    ):
        host = b" HTTP/1.1\r\nHost: " + before.authority.encode() + b"\r\n"
        asks = b"Connection: Upgrade\r\nUpgrade: other\r\nContent-Length: %d\r\n\r\n" % len(body)
        attack = await said(before, b"POST /chat/attack" + host + asks + body)
        asyncio.get_running_loop().call_later(0.2, has_asked.set)
        assert (await said(before, b"GET /chat/mine" + host + b"\r\n")).endswith(b"answer to /mine")
        if kind == "envoy":
            assert attack.startswith(b"HTTP/1.1 403 ")
            assert seen == [("/mine", None)]
        else:
            assert attack.endswith(b"answer to /attack")
            assert seen == [("/attack", None if as_shipped else b"other"), ("/mine", None)]


async def said(before: Proxy, request: bytes) -> bytes:
    """The answer to one request on a connection of its own."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", before.port, ssl=before.tls, server_hostname="localhost"
    )
    writer.write(request)
    async with asyncio.timeout(PATIENCE_SECONDS):
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        assert length is not None
        answer = head + await reader.readexactly(int(length[1]))
    writer.transport.abort()
    return answer


# Sockets that are quiet


async def test_pings_keep_a_quiet_socket_and_nothing_else_does(tmp_path: Path) -> None:
    """With 2 s where the files say 75, and a ping every half second where the server sends one every 20."""
    cases = [(kind, ping_seconds) for kind in KINDS for ping_seconds in (0.5, None)]
    stayed = await asyncio.gather(*(stays_open(kind, tmp_path, ping_seconds=ping) for kind, ping in cases))
    cut = [case for case, stays in zip(cases, stayed, strict=True) if not stays]
    assert cut == [("nginx", None), ("envoy", None)], "Caddy cuts no quiet socket"


async def stays_open(kind: str, tmp_path: Path, *, ping_seconds: float | None) -> bool:
    folder = tmp_path / f"{kind}-{ping_seconds}"
    folder.mkdir()
    app = App()
    server = Server(app.asgi, opening=OpeningPolicy(), counters=OpeningCounters())
    assert server._config.ws_ping_interval == 20.0
    server._config.ws_ping_interval = ping_seconds
    instead = {} if kind == "caddy" else {"75s": "2s"}
    with contextlib.closing(bind("127.0.0.1", 0, "serve")) as listener:
        await server.start(listener)
        try:
            async with proxy(kind, f"127.0.0.1:{listener.getsockname()[1]}", folder, instead) as before:
                url = f"wss://{before.authority}{PREFIX}/ws"
                async with websockets.connect(url, ssl=before.tls, proxy=None, ping_interval=None) as client:
                    with contextlib.suppress(TimeoutError, ConnectionClosed):
                        async with asyncio.timeout(KEEP_OPEN_SECONDS):
                            await client.recv()
                    return client.state is websockets.State.OPEN
        finally:
            await server.stop(Deadline.after(asyncio.get_running_loop().time(), 5.0))


# nginx alone


async def test_nginx_asks_nobody_twice_about_one_handshake(tmp_path: Path) -> None:
    """Of two upstreams that both hang up on it."""
    asked: list[bytes] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    first, second = [await asyncio.start_server(hang_up, "127.0.0.1") for _ in range(2)]
    at, too = (f"127.0.0.1:{each.sockets[0].getsockname()[1]}" for each in (first, second))
    async with first, second, proxy("nginx", at, tmp_path, {"keepalive 32;": f"server {too};"}) as before:
        url = f"wss://{before.authority}{PREFIX}/ws"
        with pytest.raises(InvalidStatus) as refused:
            await websockets.connect(url, ssl=before.tls, proxy=None)
        assert refused.value.response.status_code == 502
    assert len(asked) == 1
    assert b"upgrade: websocket" in asked[0].lower()


async def test_nginx_writes_no_ticket_into_its_log(tmp_path: Path) -> None:
    async with site("nginx", tmp_path) as it:
        await it.refused(path="/ws?ticket=a-ticket-of-somebody")
        log = it.proxy.folder / "access.log"
        await eventually(lambda: log.read_text(), what="the line is there")
        assert re.fullmatch(rf'{re.escape(ADA)} \[\S+\] "GET /chat/ws" 401 [\d.]+\n', log.read_text())


async def test_nginx_may_come_by_a_unix_socket(tmp_path: Path) -> None:
    app = App()
    async with running_door(tmp_path, app=app.asgi, trusted_proxies=("unix",)) as running:
        await running.settled()
        path = tmp_path / "door.sock"
        server = Server(running.app, opening=OpeningPolicy(), counters=OpeningCounters())
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            await server.start(listener)
            try:
                (tmp_path / "nginx").mkdir()
                async with proxy("nginx", f"unix:{path}", tmp_path / "nginx") as before:
                    it = Site(before, running, app)
                    async with it.connect(running.auth.issue("ada"), origin=websockets.Origin(before.origin)):
                        assert running.records[-1].address == ADA
            finally:
                await server.stop(Deadline.after(asyncio.get_running_loop().time(), 5.0))


# Envoy alone


async def test_envoy_lets_an_event_stream_last(tmp_path: Path) -> None:
    """One whose route has a timeout is cut by it, and this one is still there then."""
    async with (
        two_sites("envoy", tmp_path, {"timeout: 0s": "timeout: 1s"}) as (it, other),
        event_stream(it) as lasts,
        event_stream(other) as is_cut,
    ):
        with contextlib.suppress(aiohttp.ClientPayloadError):
            await is_cut.read()
        it.app.next_event.set()
        assert await lasts.readuntil(b"\n\n") == b"data: two\n\n"


async def test_envoy_refuses_a_socket_too_many_and_lets_it_not_wait(tmp_path: Path) -> None:
    """With 4 and 2 where the file says 200,000 and 100,000. Were both the same, as they come, the third would wait without end."""
    instead = {"max_connections: 200000": "max_connections: 4", "max_requests: 100000": "max_requests: 2"}
    async with site("envoy", tmp_path, instead) as it:
        token = it.running.auth.issue("ada")
        async with it.connect(token), it.connect(token):
            status, problem, _ = await it.refused(token)
            assert (status, problem) == (503, {}), "by Envoy"
        assert len(it.app.seen) == 2


# Caddy alone


async def test_a_reload_of_caddy_leaves_open_sockets_alone(tmp_path: Path) -> None:
    """Those of a Caddy that is told to wait no time are cut, and this one still echoes then."""
    ports = free_port(), free_port()
    admin, other_admin = ({"admin off": f"admin 127.0.0.1:{port}"} for port in ports)
    async with two_sites("caddy", tmp_path, other_admin | {"close_delay 5m": "close_delay 0s"}, admin) as (it, other):
        lasts, is_cut = it.connect(it.running.auth.issue("ada")), other.connect(other.running.auth.issue("ada"))
        async with lasts as stays, is_cut as goes, asyncio.timeout(PATIENCE_SECONDS):
            for port, each in zip(ports, (it, other), strict=True):
                await reload_caddy(port, (each.proxy.folder / "Caddyfile").read_bytes())
            with pytest.raises(ConnectionClosed):
                await goes.recv()
            await stays.send("still there?")
            assert json.loads(await stays.recv())["text"] == "still there?"


async def reload_caddy(admin_port: int, config: bytes) -> None:
    headers = {
        "Content-Type": "text/caddyfile",
        "Cache-Control": "must-revalidate",
    }  # which reloads what is the same, too
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{admin_port}") as http,
        http.post("/load", data=config, headers=headers) as answer,
    ):
        assert answer.status == 200, await answer.text()


@asynccontextmanager
async def two_sites(
    kind: str, tmp_path: Path, differently: Mapping[str, str], instead: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[Site, Site]]:
    """One as its file says, and one to see what that does."""
    folders = tmp_path / "as-it-is", tmp_path / "differently"
    for folder in folders:
        folder.mkdir()
    async with site(kind, folders[0], instead) as it, site(kind, folders[1], differently) as other:
        yield it, other


@asynccontextmanager
async def event_stream(it: Site) -> AsyncIterator[aiohttp.StreamReader]:
    """One that had its first event, and is read to its end within our patience."""
    bearer = {"Authorization": f"Bearer {it.running.auth.issue('ada')}"}
    async with it.http() as http, http.get(f"{PREFIX}/api/stream", headers=bearer) as answer:
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await answer.content.readuntil(b"\n\n") == b"data: one\n\n"
            yield answer.content


def encoded(token: str) -> str:
    return base64.urlsafe_b64encode(token.encode()).rstrip(b"=").decode()
