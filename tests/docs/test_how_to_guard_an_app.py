"""The how-to "put the door before your app": its command, its rules, and every way to bring a token that it names."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from tests.docs.pages import ROOT, block, read, rows, words
from tests.docs.test_examples import connect, refused
from tests.docs.typed import replaced, typed_server
from websockets.exceptions import ConnectionClosed

from doorward.drill.peers import free_port
from doorward.testing import FakeAuthService, Fault
from doorward.testing.guarded_app import GuardedApp

PAGE = "guard-an-app"
TEXT = read(f"docs/how-to/{PAGE}.md")
VIEW = {words(cells[0])[0]: words(cells[1]) for cells in rows(f"docs/how-to/{PAGE}.md")}
RULES, HTTP = (tomllib.loads(block(PAGE, "toml", word)) for word in ("[[routes]]", "protect_http"))
ORIGIN = RULES["allowed_origins"][0]
BOUND_SECONDS = 30.0
TIMEOUT = aiohttp.ClientTimeout(total=BOUND_SECONDS)


def said(pattern: str) -> str:
    """What the page says here."""
    found = re.search(pattern, TEXT)
    assert found is not None, pattern
    return found[1]


async def view(ws: WebSocket) -> None:
    """Tells what the page says that an app can read."""
    await ws.accept(next(iter(ws.scope["subprotocols"]), None))
    if door := ws.scope.get("doorward"):
        seen = {name: getattr(door, name) for name in VIEW} | {"permissions": sorted(door.permissions)}
        seen["principal"] = {name: str(getattr(door.principal, name)) for name in VIEW["principal"]}
        await ws.send_json(seen | {"subprotocols": ws.scope["subprotocols"], "headers": dict(ws.headers)})
    else:
        await ws.send_json({})
    await ws.close()


async def answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.scope["doorward"].principal.user_id if "doorward" in request.scope else "nobody")


async def stream(_: Request) -> StreamingResponse:
    async def endless() -> AsyncIterator[str]:
        yield "data: one\n\n"
        await asyncio.Event().wait()

    return StreamingResponse(endless(), media_type="text/event-stream")


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedApp]:
    sockets = [WebSocketRoute(path, view) for path in ("/ws", "/status", "/admin/all", "/feed", "/other")]
    app = Starlette(routes=[*sockets, Route("/api/events", stream), Route("/{rest:path}", answer)])
    with GuardedApp(app, {**RULES, **HTTP}) as running:
        yield running


def bearer(token: str) -> dict[str, str]:
    name, value = said(r"`(\S+: \w+ )<token>`").split(": ")
    return {name: f"{value}{token}"}


async def seen(url: str, **options: Any) -> dict[str, Any]:
    """What the app read of this client, behind the door's notices."""
    async with connect(url, None, **options) as client:
        while "notice" in (frame := json.loads(await client.recv())):
            pass
    return dict(frame)


async def test_the_command_guards_the_example(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    async with FakeAuthService(service_secret="change-me") as auth:
        script, port = replaced(block(PAGE, "sh"), {"https://auth.example.com": auth.url}), free_port()
        async with typed_server(script, port, cwd=tmp_path, UVICORN_PORT=str(port)) as server:
            url = f"ws://127.0.0.1:{port}/ws"
            async with connect(url, auth.issue("ada")) as client:
                assert await client.recv() == "hello ada"
            assert (await refused(url, None))["code"] == "AUTH_REQUIRED"
            async with aiohttp.ClientSession(timeout=TIMEOUT) as http, http.get(f"http://127.0.0.1:{port}/?s3cret=1"):
                pass
            await closed_by_the_bound_on_half_a_handshake(port)
            assert "s3cret" not in server.said


async def closed_by_the_bound_on_half_a_handshake(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /ws HTTP/1.1\r\nHost: ")
        async with asyncio.timeout(BOUND_SECONDS):
            await reader.read()
    finally:
        writer.close()


async def test_the_app_reads_what_the_page_says_and_no_token(guarded: GuardedApp) -> None:
    token = guarded.token("ada", email="ada@example.com")
    found = await seen(f"{guarded.url}/ws", headers=bearer(token))
    assert found.keys() >= VIEW.keys()
    assert found["principal"].keys() == set(VIEW["principal"])
    assert (found["principal"]["user_id"], found["permissions"], found["degraded"]) == ("ada", ["chat"], False)
    assert found["assurance"] in words(next(row[1] for row in rows(f"docs/how-to/{PAGE}.md") if "assurance" in row[0]))
    assert token not in json.dumps(found)


async def test_a_browser_brings_its_token_as_a_subprotocol(guarded: GuardedApp) -> None:
    token = guarded.token("ada")
    ours, prefix = said(r"the subprotocols `([\w.]+)`"), said(r"`([\w.]+\.)<base64url\(token\), no padding>`")
    offered = [ours, prefix + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")]
    found = await seen(f"{guarded.url}/ws", subprotocols=offered, origin=ORIGIN)
    assert (found["principal"]["user_id"], found["subprotocols"]) == ("ada", [ours])
    assert (await refused(f"{guarded.url}/ws", None, subprotocols=offered, origin="https://evil.example"))["code"] == (
        "ORIGIN_DENIED"
    )


async def test_a_cookie_counts_on_the_route_that_lists_it(guarded: GuardedApp) -> None:
    name = said(r"A cookie named `(\S+)`")
    cookie = {"Cookie": f"{name}={guarded.token('ada')}", "Origin": ORIGIN}
    assert (await seen(f"{guarded.url}/ws", headers=cookie))["principal"]["user_id"] == "ada"
    assert (await refused(f"{guarded.url}/other", None, headers=cookie))["code"] == "AUTH_REQUIRED"


async def test_a_first_message_counts_on_the_route_that_lists_it(guarded: GuardedApp) -> None:
    message = said(r"first message, `(\{.*\})`")
    async with connect(f"{guarded.url}/feed", None) as client:
        await client.send(message.replace('"..."', json.dumps(guarded.token("ada"))))
        first, second = [json.loads(await client.recv()) for _ in range(2)]
        assert first["notice"] == "auth.assurance"
        assert second["principal"]["user_id"] == "ada"
    async with connect(f"{guarded.url}/feed", None) as client:
        await client.send("hello?")
        with pytest.raises(ConnectionClosed):
            await drained(client)
        assert f"`BAD_CREDENTIAL_FORMAT` ({client.close_code})" in TEXT


async def drained(client: websockets.ClientConnection) -> None:
    async with asyncio.timeout(BOUND_SECONDS):
        while True:
            await client.recv()


async def test_the_rules_hold(guarded: GuardedApp) -> None:
    admin, chat = f"{guarded.url}/admin/all", f"{guarded.url}/ws"
    assert await seen(f"{guarded.url}/status") == {}
    assert (await seen(admin, headers=bearer(boss(guarded))))["principal"]["user_id"] == "boss"
    assert (await refused(admin, guarded.token("ada")))["code"] == "FORBIDDEN"
    with guarded.broken(Fault.REFUSE):
        assert (await seen(chat, headers=bearer(boss(guarded))))["principal"]["user_id"] == "boss"
        assert (await refused(admin, boss(guarded)))["code"] == "SERVICE_UNAVAILABLE"


def boss(guarded: GuardedApp) -> str:
    """A token that nobody has asked about yet."""
    return guarded.token("boss", permissions=("chat", *RULES["routes"][0]["required_scopes"]))


async def test_http_is_guarded_but_for_what_is_left_out(guarded: GuardedApp) -> None:
    left_out = next(pattern[1:] for pattern in HTTP["protect_http"] if pattern.startswith("!"))
    guards = next(pattern for pattern in HTTP["protect_http"] if pattern.endswith("/*")).replace("*", "orders")
    async with aiohttp.ClientSession(guarded.http_url, timeout=TIMEOUT) as http:
        async with http.get(guards) as reply:
            assert (reply.status, (await reply.json(content_type=None))["code"]) == (401, "AUTH_REQUIRED")
        async with http.get(guards, headers=bearer(guarded.token("ada"))) as reply:
            assert await reply.text() == "ada"
        async with http.get(left_out) as reply:
            assert await reply.text() == "nobody"
        async with http.get("/api/events", headers=bearer(guarded.token("eve"))) as reply:
            assert await reply.content.readline() == b"data: one\n"
            guarded.revoke("eve")
            rest = (await reply.content.read()).decode()
            assert said("An event stream ends with `(.*?)`") in rest.splitlines()
            assert "TOKEN_REVOKED" in rest
