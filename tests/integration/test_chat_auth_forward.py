from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from tests.chat_server import ChatServer
from tests.chat_support import BROKEN, HEALTHY, FakeInsight
from yarl import URL

from doorward.authd.passwords import WAIT_SECONDS
from doorward.chat.app import create_app
from doorward.chat.forward import HASHING_SECONDS, PROBE_SECONDS
from doorward.config import Settings
from doorward.testing.faults import Fault
from doorward.testing.proxy import FaultProxy

DEADLINE = 0.4
SLACK = 0.25
HEALTH_PATH = "/auth/health"

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Upstream:
    """A stand-in for the auth service that remembers what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.port = 0
        self._answer = answer

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Upstream]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._receive)
        runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.method, request.path, headers, await request.read()))
        return await self._answer(request)


async def signed_in(_: web.Request) -> web.StreamResponse:
    return web.json_response(
        {"access_token": "a"}, headers={"Set-Cookie": "x=1", "Server": "authd", "Connection": "close"}
    )


class Front:
    """The chat server before an auth service, and a client of it."""

    def __init__(
        self,
        server: ChatServer,
        client: aiohttp.ClientSession,
        upstream: Upstream,
        proxy: FaultProxy,
        insight: FakeInsight,
    ) -> None:
        self.server = server
        self.client = client
        self.upstream = upstream
        self.proxy = proxy
        self.insight = insight

    async def post(self, path: str, body: Any = None, **options: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
        async with self.client.post(self.server.url + path, json=body or {}, **options) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return answer.status, json.loads(await answer.read() or b"{}"), headers


@asynccontextmanager
async def front(answer: Answer = signed_in, **settings: Any) -> AsyncIterator[Front]:
    async with Upstream(answer).serving() as upstream, FaultProxy("127.0.0.1", upstream.port) as proxy:
        auth = {"url": f"http://127.0.0.1:{proxy.port}"}
        insight = FakeInsight(replace(HEALTHY, url=auth["url"]))
        app = create_app(
            Settings(auth=auth, deadline_seconds=DEADLINE, patience_seconds=0.1, **settings),
            insight=insight,
            ready=lambda: True,
            registry=CollectorRegistry(),
        )
        async with ChatServer.serving(app) as server, aiohttp.ClientSession() as client:
            yield Front(server, client, upstream, proxy, insight)


async def test_passes_the_question_and_the_answer_on() -> None:
    async with front() as it:
        status, body, headers = await it.post(
            "/auth/login", {"email": "a@b.c", "password": "p"}, headers={"Cookie": "s=1", "X-Forwarded-For": "6.6.6.6"}
        )
        assert (status, body) == (200, {"access_token": "a"})
        assert headers["cache-control"] == "no-store"
        assert not {"set-cookie", "x-powered-by"} & headers.keys()
        method, path, sent, content = it.upstream.requests[0]
        assert (method, path, json.loads(content)) == ("POST", "/auth/login", {"email": "a@b.c", "password": "p"})
        assert sent["x-forwarded-for"] == "127.0.0.1", "the peer's address, not its word"
        assert sent["content-type"] == "application/json"
        assert 0 < int(sent["x-envoy-expected-rq-timeout-ms"]) <= HASHING_SECONDS * 1000
        assert "cookie" not in sent


async def test_a_trusted_proxy_may_say_who_asks() -> None:
    async with front(trusted_proxies=("127.0.0.0/8",)) as it:
        await it.post("/auth/login", headers={"X-Forwarded-For": "6.6.6.6, 192.0.2.1"})
        assert it.upstream.requests[0][2]["x-forwarded-for"] == "192.0.2.1"


async def test_who_am_i_carries_the_token() -> None:
    async with (
        front() as it,
        it.client.get(it.server.url + "/auth/me", headers={"Authorization": "Bearer tok"}) as answer,
    ):
        assert answer.status == 200
        sent = it.upstream.requests[0][2]
        assert sent["authorization"] == "Bearer tok"
        assert 0 < int(sent["x-envoy-expected-rq-timeout-ms"]) <= DEADLINE * 1000


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (401, {"error": "invalid_credentials"}),
        (400, {"error": "invalid_grant"}),
        (404, {"error": "not_found"}),
        (429, {"error": "too_many_attempts"}),
    ],
)
async def test_a_refusal_of_the_service_is_its_own(status: int, content: dict[str, str]) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.json_response(content, status=status, headers={"Retry-After": "7"})

    async with front(refuse) as it:
        answer = await it.post("/auth/refresh", {"refresh_token": "r"})
        assert answer[:2] == (status, content)
        assert answer[2]["retry-after"] == "7"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/auth/revoke", 404),
        ("POST", "/auth/validate", 404),
        ("GET", "/auth/revocations", 404),
        ("POST", "/auth/%2e%2e/x", 404),
        ("GET", "/auth/login", 405),
        ("POST", "/auth/me", 405),
    ],
)
async def test_only_the_listed_endpoints_and_methods(method: str, path: str, status: int) -> None:
    async with front() as it, it.client.request(method, URL(it.server.url + path, encoded=True)) as answer:
        assert answer.status == status
        assert it.upstream.requests == []


@pytest.mark.parametrize(
    "fault",
    [Fault.REFUSE, Fault.RESET, Fault.SILENCE, Fault.HEADER_STALL, Fault.DRIP, Fault.TRUNCATE, Fault.BLACK_HOLE],
    ids=lambda fault: fault.kind.value,
)
async def test_unreachable_is_503_in_time(fault: Fault) -> None:
    async with front() as it:
        it.proxy.fault = fault
        loop = asyncio.get_running_loop()
        began = loop.time()
        status, body, headers = await it.post("/auth/refresh", {"refresh_token": "r"})
        assert loop.time() - began < DEADLINE + SLACK
        assert status == 503
        assert headers["content-type"] == "application/problem+json"
        assert 1 <= int(headers["retry-after"]) <= 5
        assert (body["code"], body["type"]) == (
            "SERVICE_UNAVAILABLE",
            "https://doorward.dev/problems/service-unavailable",
        )
        assert body["cause"] in {"upstream", "deadline"}
        assert "invalid_grant" not in json.dumps(body)
        it.proxy.fault = Fault.NONE
        assert (await it.post("/auth/refresh", {"refresh_token": "r"}))[0] == 200, "heals by itself"


async def test_a_password_may_wait_its_turn_longer_than_a_handshake() -> None:
    async def queued(request: web.Request) -> web.StreamResponse:
        if request.path != HEALTH_PATH:
            await asyncio.sleep(2 * DEADLINE)
        return web.json_response({"error": "too_many_attempts"}, status=429)

    async with front(queued) as it:
        for path in ("/auth/login", "/auth/register"):
            assert (await it.post(path))[:2] == (429, {"error": "too_many_attempts"}), "the service's own answer"
        assert (await it.post("/auth/refresh"))[1]["cause"] == "deadline"


def test_the_queue_of_passwords_ends_before_we_give_up_and_we_before_a_client_does() -> None:
    assert WAIT_SECONDS < HASHING_SECONDS < 8.0


async def test_a_password_that_nobody_answers_for_is_503_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doorward.chat.forward.HASHING_SECONDS", 2 * DEADLINE)
    async with front() as it:
        it.proxy.fault = Fault.DRIP
        loop = asyncio.get_running_loop()
        began = loop.time()
        status, body, _ = await it.post("/auth/login")
        assert loop.time() - began < 2 * DEADLINE + SLACK
        assert (status, body["cause"]) == (503, "deadline")


async def test_a_service_that_answers_nothing_at_all_is_told_before_a_password_would_have_had_its_turn() -> None:
    async with front() as it:
        loop = asyncio.get_running_loop()
        for fault in (Fault.SILENCE, Fault.BLACK_HOLE):
            it.proxy.fault = fault
            began = loop.time()
            crowd = [it.post("/auth/login") for _ in range(3)]
            answers = [body["cause"] for _, body, _ in await asyncio.gather(*crowd)]
            assert loop.time() - began < DEADLINE + PROBE_SECONDS + SLACK
            assert answers == ["deadline"] * 3


async def test_one_look_at_the_health_page_serves_all_who_wait_for_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doorward.chat.forward.MAX_IN_FLIGHT", 4)

    async def queued(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(PROBE_SECONDS / 2 if request.path == HEALTH_PATH else 2 * DEADLINE)
        return web.json_response({"access_token": "a"})

    async with front(queued) as it:
        answers = await asyncio.gather(*(it.post("/auth/login") for _ in range(4)))
        assert [status for status, _, _ in answers] == [200] * 4, "the look has a connection of its own"
        assert [path for _, path, _, _ in it.upstream.requests].count(HEALTH_PATH) == 1


async def test_while_the_breaker_is_open_nobody_waits_for_a_password_longer_than_for_all_else() -> None:
    async def queued(request: web.Request) -> web.StreamResponse:
        if request.path != HEALTH_PATH:
            await asyncio.sleep(2 * DEADLINE)
        return web.json_response({"access_token": "a"})

    async with front(queued) as it:
        healthy = it.insight.state
        it.insight.state = replace(healthy, breaker="open")
        assert (await it.post("/auth/login"))[1]["cause"] == "deadline"
        it.insight.state, it.insight.others = healthy, [replace(BROKEN, url="https://another.internal")]
        assert (await it.post("/auth/login"))[0] == 200


async def test_a_crowd_of_passwords_keeps_no_session_from_its_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doorward.chat.forward.MAX_HASHING", 2)
    arrived = asyncio.Semaphore(0)
    go = asyncio.Event()

    async def queued(request: web.Request) -> web.StreamResponse:
        if request.path == "/auth/login":
            arrived.release()
            await go.wait()
        return web.json_response({})

    async with front(queued) as it, asyncio.TaskGroup() as group:
        crowd = [group.create_task(it.post("/auth/login")) for _ in range(2)]
        for _ in crowd:
            await arrived.acquire()
        status, body, headers = await it.post("/auth/login")
        assert (status, body["code"]) == (503, "OVERLOADED")
        assert "not answering" not in body["title"]
        assert 1 <= int(headers["retry-after"]) <= 5
        assert (await it.post("/auth/refresh"))[0] == 200
        go.set()
        assert [(await answer)[0] for answer in crowd] == [200, 200]
        assert (await it.post("/auth/login"))[0] == 200


async def test_strangers_who_send_half_a_body_keep_nobody_from_a_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doorward.chat.forward.MAX_IN_FLIGHT", 4)
    async with front() as it:
        halves = [await asyncio.open_connection("127.0.0.1", URL(it.server.url).port) for _ in range(6)]
        for _, writer in halves:
            writer.write(
                b"POST /auth/refresh HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
            )
        assert [(await it.post("/auth/refresh"))[0] for _ in range(8)] == [200] * 8
        for reader, writer in halves:
            assert b" 503 " in await reader.readline()
            writer.close()


async def test_of_too_many_half_bodies_the_oldest_of_the_crowd_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doorward.chat.forward.MAX_INCOMPLETE", 2)
    async with front() as it:
        halves = []
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", URL(it.server.url).port)
            writer.write(b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")
            halves.append((reader, writer))
            await asyncio.sleep(0.02)
        assert b"OVERLOADED" in await halves[0][0].read(2_000)
        for reader, writer in halves[1:]:
            writer.write(b"}")
            assert b" 200 " in await reader.readline()
        for _, writer in halves:
            writer.close()


async def test_no_question_is_lost_on_a_connection_that_was_kept_and_is_closing() -> None:
    async def keeps(_: web.Request) -> web.StreamResponse:
        return web.json_response({"access_token": "a"})

    async with front(keeps) as it:
        it.proxy.fault = Fault.STALE_KEEP_ALIVE
        assert [(await it.post("/auth/login"))[0] for _ in range(3)] == [200, 200, 200]


async def odd_redirect(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("http://127.0.0.1:1/elsewhere")


async def odd_error(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500, text="Traceback: secret")


async def odd_size(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"x" * 100_000)


async def odd_encoding(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})


@pytest.mark.parametrize("answer", [odd_redirect, odd_error, odd_size, odd_encoding])
async def test_an_odd_answer_is_not_passed_on(answer: Answer) -> None:
    async with front(answer) as it:
        status, body, _ = await it.post("/auth/login")
        assert (status, body["cause"]) == (503, "upstream")
        assert "secret" not in json.dumps(body)


async def test_throttling_by_the_service_is_told_on() -> None:
    async def busy(_: web.Request) -> web.StreamResponse:
        return web.Response(status=503, headers={"Retry-After": "17"})

    async with front(busy) as it:
        _, body, headers = await it.post("/auth/login")
        assert (headers["retry-after"], body["retry_after_ms"]) == ("17", 17_000)


async def test_a_large_body_is_refused() -> None:
    async with front() as it:
        status, body, _ = await it.post("/auth/login", {"email": "x" * 70_000})
        assert (status, body["code"]) == (413, "MESSAGE_TOO_BIG")
        assert it.upstream.requests == []


async def test_a_client_that_drips_its_body_is_bounded() -> None:
    async with front() as it:
        reader, writer = await asyncio.open_connection("127.0.0.1", it.server.port)
        writer.write(b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        async with asyncio.timeout(DEADLINE + SLACK):
            head = await reader.readuntil(b"\r\n")
        assert b"503" in head
        writer.close()
        await writer.wait_closed()
        assert it.upstream.requests == []


async def test_without_an_address_of_the_service() -> None:
    app = create_app(Settings(), insight=FakeInsight(), ready=lambda: True)
    async with (
        ChatServer.serving(app) as server,
        aiohttp.ClientSession() as client,
        client.post(server.url + "/auth/login", json={}) as answer,
    ):
        assert (answer.status, (await answer.json(content_type=None))["cause"]) == (503, "config")
