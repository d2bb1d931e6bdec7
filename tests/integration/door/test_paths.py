"""However a path is spelled, and whatever the framework behind makes of it: nobody gets to a guarded handler past its rules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import litestar
import pytest
import quart
import starlette.applications
import starlette.requests
import starlette.responses
import starlette.routing
import starlette.websockets
from tests.door_server import RunningDoor, running_door

from doorward.asgi.types import App, Receive, Scope, Send

SECRET = "only for admins"
RULES: dict[str, Any] = {
    "protect_http": ("/boss",),
    "routes": ({"path": "/open", "transports": ("header", "cookie")}, {"path": "/boss", "required_scopes": ("admin",)}),
}
SPELLINGS = (
    "/boss",
    "/boss/",
    "//boss",
    "/boss//",
    "/./boss",
    "/open/../boss",
    "/boss/.",
    "/%62oss",
    "/%2562oss",
    "/%2Fboss",
    "/boss%2F",
    "/boss%2f..%2fboss",
    "/\\boss",
    "/boss;x=1",
    "/boss?x=1",
    "/BOSS",
)


def a_starlette_app() -> App:
    async def page(request: starlette.requests.Request) -> starlette.responses.Response:
        return starlette.responses.PlainTextResponse(SECRET)

    async def socket(ws: starlette.websockets.WebSocket) -> None:
        await ws.accept()
        await ws.close()

    routes = [starlette.routing.Route("/boss", page), starlette.routing.WebSocketRoute("/boss", socket)]
    return starlette.applications.Starlette(routes=routes)


def a_litestar_app() -> App:
    @litestar.get("/boss", media_type="text/plain")
    async def page() -> str:
        return SECRET

    @litestar.websocket("/boss")
    async def socket(socket: litestar.WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        await socket.close()

    return litestar.Litestar([page, socket])  # type: ignore[return-value]


def a_quart_app() -> App:
    app = quart.Quart(__name__)

    @app.get("/boss")
    async def page() -> str:
        return SECRET

    @app.websocket("/boss")
    async def socket() -> None:
        await quart.websocket.accept()

    return app  # type: ignore[return-value]


def mounted(app: App, prefix: str) -> App:
    """As uvicorn's `--root-path` gives it: the prefix is in `path` and in `root_path`."""

    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and prefix:
            scope = {**scope, "path": prefix + scope["path"], "root_path": prefix}
        await app(scope, receive, send)

    return inside


@pytest.mark.parametrize("prefix", ["", "/app"])
@pytest.mark.parametrize("framework", [a_starlette_app, a_litestar_app, a_quart_app])
async def test_no_spelling_leads_past_the_rules(tmp_path: Path, framework: Callable[[], App], prefix: str) -> None:
    async with running_door(tmp_path, app=framework(), outside=lambda app: mounted(app, prefix), **RULES) as running:
        await running.settled()
        boss, other = running.auth.issue("ada", permissions=["admin"]), running.auth.issue("bob", permissions=["chat"])
        served = [path for path in SPELLINGS if SECRET in await said(running, path, boss)]
        opened = [path for path in SPELLINGS if " 101 " in await said(running, path, boss, upgrade=True)]
        assert "/boss" in served
        assert "/boss" in opened
        for path in SPELLINGS:
            assert SECRET not in await said(running, path, None), path
            assert SECRET not in await said(running, path, other), path
        for path in opened:
            assert " 101 " not in await said(running, path, other, upgrade=True), path


async def said(running: RunningDoor, path: str, token: str | None, *, upgrade: bool = False) -> str:
    """All that the server answers to a request whose path is sent as it stands."""
    lines = [f"GET {path} HTTP/1.1", "Host: door"]
    lines += [f"Authorization: Bearer {token}"] if token else []
    if upgrade:
        lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    else:
        lines += ["Connection: close"]
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(15):
            return (await (reader.readuntil(b"\r\n\r\n") if upgrade else reader.read())).decode()
    finally:
        writer.close()
