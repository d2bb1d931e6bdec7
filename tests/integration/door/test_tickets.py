"""Tickets: given out by the door itself for a token that passed, and good for one handshake of the whole node."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.door_process import answer, process
from tests.door_server import RunningDoor, auth_settings, running_door
from tests.integration.door.test_routes import says_what_it_got

from doorward.testing import FakeAuthService, Fault, FaultProxy, eventually, opaque_token

PROCESSES, AT_ONCE = 4, 100
ORIGIN = "https://app.example"


@asynccontextmanager
async def desk(running: RunningDoor) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{running.port}") as client:
        yield client


async def asks(
    running: RunningDoor, token: str | None, path: str = "/ws", **headers: str
) -> tuple[int, dict[str, Any]]:
    """The status and the body of the answer."""
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    async with desk(running) as client, client.post(f"/doorward/ticket?path={path}", headers=headers) as got:
        assert got.headers["cache-control"] == "no-store"
        return got.status, await got.json()


async def ticket_for(running: RunningDoor, token: str, path: str = "/ws", **headers: str) -> str:
    status, body = await asks(running, token, path, **headers)
    assert status == 201, body
    ticket: str = body["ticket"]
    return ticket


async def use(running: RunningDoor, ticket: str, path: str = "/ws", **headers: str) -> str:
    found = await running.ask(None, path=f"{path}?ticket={ticket}", headers=headers)
    return "in" if found.status == 101 else f"{found.status} {found.code}"


# Giving


async def test_a_ticket_opens_one_socket(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        token = running.auth.issue("ada")
        ticket = await ticket_for(running, token)
        assert token not in ticket
        async with running.connect(None, path=f"/ws?ticket={ticket}") as client:
            await client.send("who am I?")
            assert json.loads(await client.recv())["user_id"] == "ada"
        assert await use(running, ticket) == "401 TOKEN_REJECTED"
        given, used, again = running.records
        assert (given.kind, given.verdict, given.path) == ("http", "allow", "/doorward/ticket")
        assert (used.kind, used.verdict, used.user_id) == ("websocket", "allow", "ada")
        assert "ticket" in used.steps
        assert (again.source, again.reason) == ("ticket", "token_rejected")


async def test_it_is_given_for_a_header_that_passed_only(tmp_path: Path) -> None:
    routes = ({"path": "/cookie", "transports": ("cookie", "ticket")}, {"path": "/boss", "required_scopes": ("admin",)})
    async with running_door(tmp_path, routes=routes) as running:
        token = running.auth.issue("ada")
        refused = running.auth.issue("eve")
        running.auth.reject(refused)
        assert (await asks(running, None))[1]["code"] == "AUTH_REQUIRED"
        assert (await asks(running, refused))[1]["code"] == "TOKEN_REJECTED"
        assert (await asks(running, token, "/boss"))[1]["code"] == "FORBIDDEN"
        own = f"http://127.0.0.1:{running.port}"
        status, body = await asks(running, None, "/cookie", Cookie=f"__Host-doorward={token}", Origin=own)
        assert (status, body["code"]) == (401, "AUTH_REQUIRED")
        assert (await asks(running, token, Origin="https://evil.example"))[1]["code"] == "ORIGIN_DENIED"


@pytest.mark.parametrize(
    "query", ["", "?path=", "?path=ws", "?path=/a&path=/b", "?path=/" + "x" * 600, "?" + "a&" * 20]
)
async def test_a_request_that_names_no_path(query: str, tmp_path: Path) -> None:
    async with running_door(tmp_path) as running, desk(running) as client:
        async with client.post(f"/doorward/ticket{query}") as got:
            assert (got.status, (await got.json(content_type=None))["code"]) == (400, "BAD_REQUEST")
        async with client.get("/doorward/ticket?path=/ws") as got:
            assert (got.status, got.headers["allow"]) == (405, "POST")


async def test_an_outage_gives_no_ticket_to_the_unproven(tmp_path: Path) -> None:
    quick: dict[str, Any] = {"deadline_seconds": 0.5, "patience_seconds": 0.1}
    async with running_door(tmp_path, **quick) as running:
        await running.app.door.open()
        await running.settled()
        running.proxy.fault = Fault.REFUSE
        status, body = await asks(running, opaque_token())
        assert (status, body["code"]) == (503, "SERVICE_UNAVAILABLE")


# Where it counts


async def test_it_is_for_its_path_and_its_origin(tmp_path: Path) -> None:
    async with running_door(tmp_path, allowed_origins=(ORIGIN, "https://two.example")) as running:
        token = running.auth.issue("ada")
        assert await use(running, await ticket_for(running, token, "/a"), "/b") == "401 TOKEN_INVALID"
        page = await ticket_for(running, token, Origin=ORIGIN)
        assert await use(running, page) == "401 TOKEN_INVALID"
        assert await use(running, page, Origin="https://two.example") == "401 TOKEN_INVALID"
        assert await use(running, page, Origin=ORIGIN) == "in"  # nobody could use it up elsewhere


async def test_it_ends_with_its_token_and_its_seconds(tmp_path: Path) -> None:
    async with running_door(tmp_path, tickets={"seconds": 0.2}) as running:
        status, body = await asks(running, running.auth.issue("ada"))
        assert (status, body["expires_in_ms"]) == (201, 200)
        expired = time.monotonic() + 0.3
        await eventually(lambda: time.monotonic() > expired, what="its time is over")
        assert await use(running, body["ticket"]) == "401 TOKEN_EXPIRED"
    async with running_door(tmp_path) as running:
        _, body = await asks(running, running.auth.issue("ada", ttl_seconds=3))
        assert body["expires_in_ms"] <= 3000
    async with running_door(tmp_path, verify="local") as running:  # within the leeway it counts as its token does
        await running.settled()
        _, body = await asks(running, running.auth.issue("ada", exp=time.time() - 0.5))
        assert 0 < body["expires_in_ms"] <= 4500
        assert await use(running, body["ticket"]) == "in"


async def test_the_token_in_it_goes_all_the_way_again(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        token = running.auth.issue("ada")
        ticket = await ticket_for(running, token)
        await running.settled()
        running.auth.revoke(user_id="ada")
        await eventually(lambda: len(running.issuer.memory.revocations) > 0, what="the revocation has come")
        assert await use(running, ticket) == "401 TOKEN_REVOKED"


async def test_a_route_that_lists_no_ticket_leaves_the_parameter_to_the_app(tmp_path: Path) -> None:
    routes = ({"path": "/plain", "transports": ("header",)},)
    async with running_door(tmp_path, app=says_what_it_got, routes=routes) as running:
        token = running.auth.issue("ada")
        assert await use(running, await ticket_for(running, token, "/plain"), "/plain") == "401 AUTH_REQUIRED"
        async with running.connect(token, path="/plain?ticket=to-the-zoo&a=1") as client:
            assert json.loads(await client.recv())["query"] == "ticket=to-the-zoo&a=1"
        ticket = await ticket_for(running, token)
        async with running.connect(None, path=f"/ws?a=1&%74icket={ticket}&b=%20") as client:
            assert json.loads(await client.recv())["query"] == "a=1&b=%20"


async def test_beside_another_credential_it_is_one_too_many(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        token = running.auth.issue("ada")
        ticket = await ticket_for(running, token)
        assert (await running.ask(token, path=f"/ws?ticket={ticket}")).code == "BAD_CREDENTIAL_FORMAT"
        assert (await running.ask(None, path=f"/ws?ticket={ticket}&ticket={ticket}")).code == "BAD_CREDENTIAL_FORMAT"
        assert await use(running, "not~a~ticket") == "400 BAD_CREDENTIAL_FORMAT"
        assert await use(running, "AAAA") == "401 TOKEN_INVALID"
        assert await use(running, ticket) == "in"


async def test_a_page_may_ask_from_another_origin_that_is_listed(tmp_path: Path) -> None:
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    async with running_door(tmp_path, allowed_origins=(ORIGIN,)) as running, desk(running) as client:
        async with client.options("/doorward/ticket?path=/ws", headers={"Origin": ORIGIN, **preflight}) as got:
            assert got.status == 204
        headers = {"Origin": ORIGIN, "Authorization": f"Bearer {running.auth.issue('ada')}"}
        async with client.post("/doorward/ticket?path=/ws", headers=headers) as got:
            assert (got.status, got.headers["access-control-allow-origin"]) == (201, ORIGIN)


async def test_an_event_stream_of_the_same_origin_uses_one(tmp_path: Path) -> None:
    """An `EventSource` sets no header, and sends no origin to its own."""

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError("only HTTP")
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        body = f"data: {scope['doorward'].principal.user_id}{scope['query_string'].decode()}\n\n"
        await send({"type": "http.response.body", "body": body.encode()})

    async with running_door(tmp_path, app=stream, protect_http=("/events",)) as running, desk(running) as client:
        own = f"http://127.0.0.1:{running.port}"
        ticket = await ticket_for(running, running.auth.issue("ada"), "/events", Origin=own)
        async with client.get(f"/events?ticket={ticket}") as got:
            assert await got.text() == "data: ada\n\n"
        async with client.get(f"/events?ticket={ticket}") as got:
            assert got.status == 401


# Once


async def test_a_store_that_cannot_say_lets_nobody_in(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        ticket = await ticket_for(running, running.auth.issue("ada"))
        with sqlite3.connect(running.door.settings.data_dir / "node.sqlite3") as connection:
            connection.execute("ALTER TABLE redeemed RENAME TO elsewhere")
        connection.close()
        found = await running.ask(None, path=f"/ws?ticket={ticket}")
        assert (found.status, found.code, found.cause) == (503, "SERVICE_UNAVAILABLE", "store")


async def test_a_hundred_at_once_over_four_processes_and_a_restart(tmp_path: Path) -> None:
    """The processes end by SIGKILL; what one of them used up stays used up."""
    async with FakeAuthService() as auth, FaultProxy(auth.host, auth.port, seed=1) as proxy:
        settings = {"auth": auth_settings(auth, proxy), "data_dir": str(tmp_path / "data")}
        async with running_door(tmp_path, auth=auth, proxy=proxy) as running:
            ticket = await ticket_for(running, auth.issue("ada"))
            unused = await ticket_for(running, auth.issue("ada"))
        async with AsyncExitStack() as stack:
            ports = [await stack.enter_async_context(process(settings)) for _ in range(PROCESSES)]
            path = f"/ws?ticket={ticket}"
            asking = (answer(port, path=path) for port in ports for _ in range(AT_ONCE // PROCESSES))
            answers = Counter(await asyncio.gather(*asking))
            assert answers == {"in": 1, "TOKEN_REJECTED": AT_ONCE - 1}
        async with process(settings) as port:
            assert await answer(port, path=path) == "TOKEN_REJECTED"
            assert await answer(port, path=f"/ws?ticket={unused}") == "in"
