"""`protect_http`: the same pipeline before HTTP requests and event streams, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.door_server import RunningDoor, running_door

from doorward.asgi.types import Receive, Scope, Send
from doorward.runtime.ports import RevocationItem
from doorward.testing import Fault, eventually

COOKIE = "__Host-doorward"
GUARDED: dict[str, Any] = {"protect_http": ("/api/*", "!/api/config")}
QUICK: dict[str, Any] = {"deadline_seconds": 0.6, "patience_seconds": 0.2}
ORIGIN = "https://app.example"


class Api:
    """An app with a plain answer, an event stream, a download without an end and an answer that waits to be let go."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.cancelled: list[str] = []
        self.disconnected: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("only HTTP, and no lifespan")
        try:
            await self._answer(scope, receive, send)
        except asyncio.CancelledError:
            self.cancelled.append(scope["path"])
            raise

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == "/api/stream":
            await start(send, "text/event-stream")
            await send({"type": "http.response.body", "body": b"data: hello\n\n", "more_body": True})
            await self._until_disconnected(path, receive)
        elif path.startswith("/api/chunks/"):
            await start(send, "text/event-stream")
            for chunk in path.removeprefix("/api/chunks/").split("/"):
                body = chunk.replace("n", "\n").replace("r", "\r").encode()
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await self._until_disconnected(path, receive)
        elif path == "/api/half":
            await start(send, "text/event-stream")
            await send({"type": "http.response.body", "body": b"data: hel", "more_body": True})
            await self._until_disconnected(path, receive)
        elif path == "/api/download":
            await start(send, "application/octet-stream")
            await send({"type": "http.response.body", "body": b"some", "more_body": True})
            await self.released.wait()
            await send({"type": "http.response.body", "body": b" more", "more_body": False})
        elif path == "/api/slow":
            await self.released.wait()
            await says_what_it_got(scope, receive, send)
        elif path == "/api/stubborn":
            await asyncio.Event().wait()
        else:
            await says_what_it_got(scope, receive, send)

    async def _until_disconnected(self, path: str, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.disconnected.append(path)


async def start(send: Send, kind: str) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind.encode())]})


async def says_what_it_got(scope: Scope, receive: Receive, send: Send) -> None:
    body = b""
    while True:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    admission = scope.get("doorward")
    got = {
        "user_id": admission.principal.user_id if admission is not None else None,
        "decision_id": admission.decision_id if admission is not None else None,
        "degraded": admission.degraded if admission is not None else None,
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
        "subprotocols": "subprotocols" in scope,
        "body": body.decode(),
    }
    await start(send, "application/json")
    await send({"type": "http.response.body", "body": json.dumps(got).encode()})


@pytest.fixture
def api() -> Api:
    return Api()


@asynccontextmanager
async def guarded(
    tmp_path: Path, api: Api, **settings: Any
) -> AsyncIterator[tuple[RunningDoor, aiohttp.ClientSession]]:
    async with running_door(tmp_path, app=api, **{**GUARDED, **settings}) as running:
        await running.app.door.open()
        await running.settled()
        async with aiohttp.ClientSession(f"http://127.0.0.1:{running.port}") as client:
            yield running, client


def bearer(token: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **more}


async def problem_of(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    assert answer.content_type == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    problem: dict[str, Any] = await answer.json()
    assert problem["status"] == answer.status
    return problem


# Who gets in


async def test_a_request_with_a_good_token_reaches_the_app_without_it(tmp_path: Path, api: Api) -> None:
    async with guarded(tmp_path, api) as (running, client):
        token = running.auth.issue("ada")
        async with client.post("/api/who", headers=bearer(token), data=b"the body") as answer:
            got = await answer.json()
        assert (got["user_id"], got["body"], got["subprotocols"]) == ("ada", "the body", False)
        assert token not in json.dumps(got)
        record = running.records[-1]
        assert (record.id, record.kind, record.verdict, record.path) == (
            got["decision_id"],
            "http",
            "allow",
            "/api/who",
        )
        assert len(running.issuer.registry) == 0


async def test_a_request_without_a_token_is_refused_as_a_problem(tmp_path: Path, api: Api) -> None:
    async with guarded(tmp_path, api) as (running, client):
        async with client.get("/api/who") as answer:
            problem = await problem_of(answer)
            assert (answer.status, problem["code"]) == (401, "AUTH_REQUIRED")
            assert answer.headers["www-authenticate"] == "Bearer"
        assert problem["decision_id"] == running.records[-1].id
        async with client.get("/api/who", headers=bearer("no good")) as answer:
            assert (answer.status, (await problem_of(answer))["code"]) == (400, "BAD_CREDENTIAL_FORMAT")
        async with client.get("/api/who", headers=bearer(running.auth.issue("ada", ttl_seconds=-60))) as answer:
            assert (await problem_of(answer))["code"] == "TOKEN_EXPIRED"


async def test_other_paths_pass_through(tmp_path: Path, api: Api) -> None:
    async with guarded(tmp_path, api) as (running, client):
        for path in ("/", "/apis", "/api/config", "/.well-known/x"):
            async with client.get(path, headers=bearer("anything")) as answer:
                assert (await answer.json())["user_id"] is None
        assert running.records == []


@pytest.mark.parametrize(
    "path", ["//api/who", "/x/../api/who", "/api/%2e/config", "/%2561pi/who", "/api%2fwho", "/x%5c..%5capi/who"]
)
async def test_a_path_that_may_be_read_as_a_guarded_one_is_guarded(path: str, tmp_path: Path, api: Api) -> None:
    async with guarded(tmp_path, api) as (running, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{running.port}\r\nconnection: close\r\n\r\n".encode())
        async with asyncio.timeout(5):
            assert (await reader.readline()).split()[1] == b"401"
        writer.close()


async def test_a_required_scope(tmp_path: Path, api: Api) -> None:
    routes = ({"path": "/api/admin", "required_scopes": ("admin",)},)
    async with guarded(tmp_path, api, routes=routes) as (running, client):
        answer = await client.get("/api/admin", headers=bearer(running.auth.issue("ada")))
        assert (answer.status, (await problem_of(answer))["code"]) == (403, "FORBIDDEN")


# Outage


async def test_an_outage_is_no_no(tmp_path: Path, api: Api) -> None:
    async with guarded(tmp_path, api, degrade={"mode": "deny"}, **QUICK) as (running, client):
        running.proxy.fault = Fault.SILENCE
        running.door.telemetry.largest_lag_seconds = 0.0
        async with client.get("/api/who", headers=bearer(running.auth.issue("ada"))) as answer:
            problem = await problem_of(answer)
            assert (answer.status, problem["code"], problem["cause"]) == (503, "SERVICE_UNAVAILABLE", "deadline")
            assert int(answer.headers["retry-after"]) * 1000 >= problem["retry_after_ms"] > 0
        assert running.was_in_time


async def test_the_deadline_is_for_the_decision_not_for_the_app(tmp_path: Path, api: Api) -> None:
    async with guarded(tmp_path, api, **QUICK) as (running, client):
        asking = asyncio.ensure_future(client.get("/api/slow", headers=bearer(running.auth.issue("ada"))))
        await eventually(lambda: running.records, what="it is let in")
        done, _ = await asyncio.wait({asking}, timeout=0.8)
        assert not done
        api.released.set()
        async with await asking as answer:
            assert (await answer.json())["user_id"] == "ada"
        assert running.records[-1].total_ms < 600


async def test_a_late_no_takes_back_what_patience_allowed(tmp_path: Path, api: Api) -> None:
    degrade = {"mode": "local_jwt"}
    async with guarded(tmp_path, api, degrade=degrade, deadline_seconds=2.0, patience_seconds=0.1) as (running, client):
        token = running.auth.issue("ada")
        running.auth.reject(token)
        running.auth.latency_seconds = 0.5
        async with client.get("/api/slow", headers=bearer(token)) as answer:
            assert (answer.status, (await problem_of(answer))["code"]) == (401, "TOKEN_REVOKED")
        assert running.records[-1].provisional


# Origins and cookies


async def test_a_page_of_another_origin(tmp_path: Path, api: Api) -> None:
    async with guarded(tmp_path, api, allowed_origins=(ORIGIN,)) as (running, client):
        token = running.auth.issue("ada")
        async with client.get("/api/who", headers=bearer(token, Origin="https://evil.example")) as answer:
            assert (answer.status, (await problem_of(answer))["code"]) == (403, "ORIGIN_DENIED")
            assert "access-control-allow-origin" not in answer.headers
        async with client.get("/api/who", headers=bearer(token, Origin=ORIGIN)) as answer:
            assert answer.status == 200
        async with client.get("/api/who", headers={"Origin": ORIGIN}) as answer:
            assert answer.status == 401
            assert answer.headers["access-control-allow-origin"] == ORIGIN


async def test_a_browser_may_ask_before_it_sends_a_token(tmp_path: Path, api: Api) -> None:
    asks = {"Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "authorization"}
    async with guarded(tmp_path, api, allowed_origins=(ORIGIN,)) as (running, client):
        async with client.options("/api/who", headers={"Origin": ORIGIN, **asks}) as answer:
            assert answer.status == 204
            assert answer.headers["access-control-allow-origin"] == ORIGIN
            assert answer.headers["access-control-allow-methods"] == "DELETE"
            assert answer.headers["access-control-allow-headers"] == "authorization"
        async with client.options("/api/who", headers={"Origin": "https://evil.example", **asks}) as answer:
            assert answer.status == 403
        for headers in (asks, {"Origin": ORIGIN}):
            async with client.options("/api/who", headers=headers) as answer:
                assert answer.status == 401
        assert all(record.verdict == "deny" for record in running.records)


async def test_a_cookie_may_read_and_needs_an_origin_to_do_more(tmp_path: Path, api: Api) -> None:
    routes = ({"path": "/api/c/*", "transports": ("cookie", "header")},)
    async with guarded(tmp_path, api, routes=routes) as (running, client):
        cookie = {"Cookie": f"{COOKIE}={running.auth.issue('ada')}; lang=en"}
        own = {"Origin": f"http://127.0.0.1:{running.port}"}
        async with client.get("/api/c/x", headers=cookie) as answer:
            got = await answer.json()
            assert got["user_id"] == "ada"
            assert ["cookie", "lang=en"] in [[name.lower(), value] for name, value in got["headers"]]
        for method in ("POST", "DELETE", "PATCH"):
            async with client.request(method, "/api/c/x", headers=cookie) as answer:
                assert (answer.status, (await problem_of(answer))["code"]) == (403, "ORIGIN_DENIED")
            async with client.request(method, "/api/c/x", headers={**cookie, **own}) as answer:
                assert answer.status == 200
        async with client.get("/api/who", headers=cookie) as answer:
            assert (await problem_of(answer))["code"] == "AUTH_REQUIRED"


# The life of a response


async def events(answer: aiohttp.ClientResponse) -> str:
    async with asyncio.timeout(8):
        return (await answer.read()).decode()


async def test_an_event_stream_ends_with_its_token(tmp_path: Path, api: Api) -> None:
    async with guarded(tmp_path, api) as (running, client):
        token = running.auth.issue("ada", ttl_seconds=1.5)
        async with client.get("/api/stream", headers=bearer(token)) as answer:
            said = await events(answer)
        assert said.startswith("data: hello\n\nevent: auth.error\ndata: ")
        assert json.loads(said.splitlines()[-2].removeprefix("data: "))["code"] == "TOKEN_EXPIRED"
        await eventually(lambda: api.disconnected, what="the app has learnt it")
        assert len(running.issuer.registry) == 0


async def test_an_event_is_whole_whatever_chunks_it_came_in(tmp_path: Path, api: Api) -> None:
    """`n` and `r` are the ends of line."""
    whole = ["1n/n", "1/n/n", "1rnr/n", "1rn/r/n", "1r/r", "1n/r", "1nn/n"]
    half = ["1nn/2n", "1r/n", "1rn/2rn", "1rn/"]
    async with guarded(tmp_path, api) as (running, client):
        for chunks in whole + half:
            headers = bearer(running.auth.issue(chunks))
            async with client.get(f"/api/chunks/{chunks}", headers=headers) as answer:
                await answer.content.readexactly(len(chunks.replace("/", "")))
                running.auth.revoke(user_id=chunks)
                if chunks in whole:
                    assert (await events(answer)).startswith("event: auth.error\ndata: "), chunks
                else:
                    with pytest.raises(aiohttp.ClientError):
                        await events(answer)


@pytest.mark.parametrize("path", ["/api/stream", "/api/half", "/api/download", "/api/slow", "/api/stubborn"])
async def test_a_revocation_ends_every_kind_of_response(path: str, tmp_path: Path, api: Api) -> None:
    async with guarded(tmp_path, api, session={"app_exit_seconds": 0.5}) as (running, client):
        asking = asyncio.ensure_future(client.get(path, headers=bearer(running.auth.issue("ada"))))
        await eventually(lambda: len(running.issuer.registry) == 1, what="it is registered")
        if path not in {"/api/slow", "/api/stubborn"}:
            await asking
        running.auth.revoke(user_id="ada")
        async with await asking as answer:
            if path == "/api/stream":
                assert '"code":"TOKEN_REVOKED"' in await events(answer)
            elif answer.status == 200:
                with pytest.raises(aiohttp.ClientError):
                    await events(answer)  # a part is not taken for the whole
            else:
                assert (await problem_of(answer))["code"] == "TOKEN_REVOKED"
        await eventually(lambda: len(running.issuer.registry) == 0, what="the app has left")
        if path in {"/api/stubborn", "/api/slow", "/api/download"}:
            await eventually(lambda: api.cancelled == [path], what="the app is cancelled")


async def test_an_app_that_learns_of_the_end_before_the_client_leaves_the_answer_to_the_door(
    tmp_path: Path, api: Api
) -> None:
    """A server whose app returns without a response makes one up: 500."""
    async with guarded(tmp_path, api) as (running, client):
        asking = asyncio.ensure_future(client.get("/api/slow", headers=bearer(running.auth.issue("ada"))))
        await eventually(lambda: len(running.issuer.registry) == 1, what="it is registered")
        api.released.set()
        running.issuer.registry.revoke([RevocationItem(user_id="ada", not_before_ms=10**15)])
        async with await asking as answer:
            assert (answer.status, (await problem_of(answer))["code"]) == (401, "TOKEN_REVOKED")


async def test_a_drain_ends_streams_and_lets_answers_come_to_their_end(tmp_path: Path, api: Api) -> None:
    async with guarded(tmp_path, api) as (running, client):
        token = running.auth.issue("ada")
        stream = await client.get("/api/stream", headers=bearer(token))
        slow = asyncio.ensure_future(client.get("/api/slow", headers=bearer(token)))
        await eventually(lambda: len(running.issuer.registry) == 2, what="both are in")
        await running.app.drain(spread_seconds=0.0)
        said = await events(stream)
        assert '"code":"RESTARTING"' in said
        assert "\nretry: " in said
        async with client.get("/api/who", headers=bearer(token)) as answer:
            assert (answer.status, (await problem_of(answer))["code"]) == (503, "RESTARTING")
        assert not slow.done()
        api.released.set()
        async with await slow as answer:
            assert (await answer.json())["user_id"] == "ada"


async def test_an_answer_that_does_not_come_to_its_end_is_cut(tmp_path: Path, api: Api) -> None:
    async with guarded(tmp_path, api, session={"app_exit_seconds": 0.3}) as (running, client):
        token = running.auth.issue("ada")
        download = await client.get("/api/download", headers=bearer(token))
        waiting = asyncio.ensure_future(client.get("/api/stubborn", headers=bearer(token)))
        await eventually(lambda: len(running.issuer.registry) == 2, what="both are in")
        await running.app.drain(spread_seconds=0.0)
        with pytest.raises(aiohttp.ClientError):
            await events(download)
        async with await waiting as answer:
            assert (await problem_of(answer))["code"] == "RESTARTING"
        await eventually(lambda: len(running.issuer.registry) == 0, what="the app has left")
