"""The token as the first message, on routes that list it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import websockets
from tests.door_client import opened
from tests.door_server import running_door, whoami
from websockets.exceptions import ConnectionClosed

from doorward.asgi.types import Receive, Scope, Send
from doorward.testing import Fault, eventually

ROUTES: dict[str, Any] = {"routes": ({"path": "/ws", "transports": ("first_message", "header")},)}
QUICK: dict[str, Any] = {"deadline_seconds": 0.5, "patience_seconds": 0.1}


def auth(token: str) -> str:
    return json.dumps({"type": "auth", "token": token})


async def closed(connecting: websockets.connect, *messages: str | bytes) -> tuple[int | None, str]:
    """The close code, and the word of the close reason."""
    async with connecting as client, asyncio.timeout(8):
        for message in messages:
            await client.send(message)
        await client.wait_closed()
        return client.close_code, (client.close_reason or "").partition(";")[0]


async def test_a_token_as_the_first_message(tmp_path: Path) -> None:
    async with running_door(tmp_path, **ROUTES) as running:
        token = running.auth.issue("ada")
        async with running.connect(None) as client:
            await client.send(auth(token))
            await client.send("who am I?")
            said = json.loads(await client.recv())
        assert (said["user_id"], said["text"]) == ("ada", "who am I?")
        (record,) = running.records
        assert (record.verdict, record.user_id, record.kind) == ("allow", "ada", "websocket")
        assert len(running.door.waiting) == 0
        async with running.connect(token) as client:  # another way that the route lists is not waited for
            await client.send("who am I?")
            assert json.loads(await client.recv())["user_id"] == "ada"


async def test_only_where_the_route_lists_it(tmp_path: Path) -> None:
    async with running_door(tmp_path, **ROUTES) as running:
        assert (await running.ask(None, path="/other")).code == "AUTH_REQUIRED"
        assert (await running.ask(None, headers={"Origin": "https://evil.example"})).code == "ORIGIN_DENIED"
        assert (await running.ask("not~b64%")).code == "BAD_CREDENTIAL_FORMAT"


async def test_what_is_refused_is_told_with_the_close_codes_of_the_table(tmp_path: Path) -> None:
    async with running_door(tmp_path, **ROUTES) as running:
        await running.settled()
        expired = running.auth.issue("ada", ttl_seconds=-60)
        assert await closed(running.connect(None), auth(expired)) == (3000, "TOKEN_EXPIRED")
        assert await closed(running.connect(None), "hello") == (1008, "BAD_CREDENTIAL_FORMAT")
        assert await closed(running.connect(None), auth("a").encode()) == (1008, "BAD_CREDENTIAL_FORMAT")
        assert await closed(running.connect(None), auth("a" * 20_000)) == (1009, "MESSAGE_TOO_BIG")
        assert [record.code for record in running.records][:2] == ["TOKEN_EXPIRED", "BAD_CREDENTIAL_FORMAT"]


async def test_the_longest_message_that_is_read(tmp_path: Path) -> None:
    async with running_door(tmp_path, **ROUTES) as running:
        longest = auth(running.auth.issue("ada")).ljust(16_384)
        async with running.connect(None) as client:
            await client.send(longest)
            await client.send("who am I?")
            assert json.loads(await client.recv())["user_id"] == "ada"
        assert await closed(running.connect(None), f"{longest} ") == (1009, "MESSAGE_TOO_BIG")


async def test_one_that_says_nothing_is_waited_for_so_long(tmp_path: Path) -> None:
    async with running_door(tmp_path, limits={"first_message_seconds": 0.3}, **ROUTES) as running:
        assert await closed(running.connect(None)) == (3008, "AUTH_TIMEOUT")
        (record,) = running.records
        assert record.reason == "auth_timeout"
        assert record.total_ms < 300  # waiting for the client is not in it
        assert len(running.door.waiting) == 0


async def test_one_that_is_waited_for_is_answered_by_a_drain(tmp_path: Path) -> None:
    async with running_door(tmp_path, limits={"first_message_seconds": 30}, **ROUTES) as running:
        await running.settled()
        client = asyncio.create_task(closed(running.connect(None)))
        await eventually(lambda: len(running.door.waiting) == 1, what="it is waited for")
        await running.door.drain(spread_seconds=0.0)
        assert (len(running.door.waiting), running.door.handshakes) == (0, 0)
        assert await client == (1012, "RESTARTING")
        assert [(record.reason, record.source) for record in running.records] == [("restarting", "drain")]


async def test_one_that_leaves_is_no_decision(tmp_path: Path) -> None:
    async with running_door(tmp_path, **ROUTES) as running:
        async with running.connect(None):
            await eventually(lambda: len(running.door.waiting) == 1, what="it is waited for")
        await eventually(lambda: len(running.door.waiting) == 0, what="it is not waited for")
        assert running.records == []


async def test_the_deadline_begins_with_the_message(tmp_path: Path) -> None:
    async with running_door(tmp_path, degrade={"mode": "deny"}, **ROUTES, **QUICK) as running:
        async with running.connect(None) as warm:
            await warm.send(auth(running.auth.issue("ada")))
            await warm.send("who am I?")
            await warm.recv()
        running.proxy.fault = Fault.SILENCE
        async with running.connect(None) as client, asyncio.timeout(8):
            waited = asyncio.get_running_loop().time() + 0.7
            await eventually(lambda: asyncio.get_running_loop().time() > waited, what="longer than the deadline")
            running.door.telemetry.largest_lag_seconds = 0.0
            await client.send(auth(running.auth.issue("ada")))
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1013
        assert running.records[-1].reason == "deadline"
        assert running.was_in_time
        assert running.records[-1].total_ms > 100


async def test_how_many_are_waited_for_is_bounded(tmp_path: Path) -> None:
    limits = {"first_message_waiting_per_address": 2}
    async with (
        running_door(tmp_path, limits=limits, **ROUTES) as running,
        running.connect(None) as one,
        running.connect(None),
    ):
        await eventually(lambda: len(running.door.waiting) == 2, what="both are waited for")
        refused = await running.ask(None)
        assert (refused.status, refused.code) == (429, "RATE_LIMITED")
        token = running.auth.issue("ada")
        assert (await running.ask(token)).status == 101  # who has said it already is not in the way
        await one.send(auth(token))
        await eventually(lambda: len(running.door.waiting) == 1, what="one has said it")
        async with running.connect(None) as next_one:
            await next_one.send(auth(token))
            await next_one.send("who am I?")
            assert json.loads(await next_one.recv())["user_id"] == "ada"


async def test_how_many_are_waited_for_is_bounded_over_all_addresses(tmp_path: Path) -> None:
    limits = {"first_message_waiting": 2, "first_message_waiting_per_address": 2}
    async with (
        running_door(tmp_path, limits=limits, trusted_proxies=("127.0.0.0/8",), **ROUTES) as running,
        running.connect(None, headers={"X-Forwarded-For": "192.0.2.1"}) as one,
        running.connect(None, headers={"X-Forwarded-For": "192.0.2.2"}),
    ):
        await eventually(lambda: len(running.door.waiting) == 2, what="both are waited for")
        third = {"X-Forwarded-For": "192.0.2.3"}
        refused = await running.ask(None, headers=third)
        assert (refused.status, refused.code) == (503, "OVERLOADED")
        token = running.auth.issue("ada")
        assert (await running.ask(token, headers=third)).status == 101  # who has said it already is not in the way
        await one.send(auth(token))
        await eventually(lambda: len(running.door.waiting) == 1, what="one has said it")
        assert (await running.ask(None, headers=third)).status == 101


async def test_a_client_of_ours_gets_its_notices_and_its_refusal(tmp_path: Path) -> None:
    async with running_door(tmp_path, **ROUTES) as running:
        async with opened(running.browser(None)) as page:
            assert page.client.subprotocol == "doorward.v1"
            await page.client.send(auth(running.auth.issue("ada", session_id="s")))
            await page.frame(notice="auth.assurance", user_id="ada")
            assert (await page.refresh(running.auth.issue("ada", session_id="s")))["ok"] is True
        await running.settled()
        async with opened(running.browser(None)) as page:
            await page.client.send(auth(running.auth.issue("ada", ttl_seconds=-60)))
            assert (await page.frame(type="auth.error"))["code"] == "TOKEN_EXPIRED"
            assert (await page.closed())[0] == 3000


async def test_notices_for_every_client_of_a_route(tmp_path: Path) -> None:
    routes = ({"path": "/ws", "transports": ("first_message",), "notices": True},)
    async with running_door(tmp_path, routes=routes) as running, opened(running.connect(None)) as page:
        await page.client.send(auth(running.auth.issue("ada", session_id="s")))
        await page.frame(notice="auth.assurance", user_id="ada")
        assert (await page.refresh(running.auth.issue("ada", session_id="s")))["ok"] is True
        running.auth.revoke(user_id="ada")
        assert (await page.closed()) == (3000, (page.client.close_reason or ""))


async def test_a_revocation_before_the_app_has_accepted(tmp_path: Path) -> None:
    async def hesitant(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await whoami(scope, receive, send)
        assert "websocket.http.response" not in scope["extensions"]
        assert (await receive())["type"] == "websocket.connect"
        assert (await receive())["type"] == "websocket.disconnect"

    async with running_door(tmp_path, app=hesitant, **ROUTES) as running, opened(running.connect(None)) as page:
        await page.client.send(auth(running.auth.issue("ada")))
        await eventually(lambda: len(running.issuer.registry) == 1, what="it is registered")
        running.auth.revoke(user_id="ada")
        assert (await page.closed())[0] == 3000
