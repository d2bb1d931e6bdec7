"""A revocation closes what is open within two seconds, and keeps out what comes after."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from tests.door_client import Page, opened
from tests.door_server import RunningDoor, running_door

from doorward.asgi.types import Receive, Scope, Send
from doorward.runtime.ports import RevocationItem
from doorward.testing import Endpoint, FakeAuthService, eventually

CLOSED_WITHIN_SECONDS = 2.0


async def following(running: RunningDoor) -> None:
    """The feed is on its long poll."""
    await running.settled()
    await eventually(lambda: running.issuer.follower.state == "live", what="the feed is followed")
    await eventually(lambda: running.auth.calls[Endpoint.REVOCATIONS] > 1, what="the long poll is out")


async def seconds_to_the_end(page: Page, began: float) -> float:
    code, reason = await page.closed()
    assert (code, reason.split(";")[0]) == (3000, "TOKEN_REVOKED")
    return time.monotonic() - began


def by_jti(_: FakeAuthService) -> dict[str, Any]:
    return {"jti": "j1"}


def by_session(_: FakeAuthService) -> dict[str, Any]:
    return {"session_id": "s1"}


def by_user(_: FakeAuthService) -> dict[str, Any]:
    return {"user_id": "ada", "not_before_ms": int(time.time() * 1000)}


@pytest.mark.parametrize("item", [by_jti, by_session, by_user])
async def test_an_open_socket_is_closed_and_the_next_one_refused(item: Any, tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        await following(running)
        token = running.auth.issue("ada", session_id="s1", jti="j1", age_seconds=5)
        other = running.auth.issue("eve", session_id="s2", jti="j2", age_seconds=5)
        async with opened(running.browser(token)) as page, opened(running.browser(other)) as untouched:
            await page.frame(notice="auth.assurance")
            began = time.monotonic()
            running.auth.revoke(**item(running.auth))
            error = await page.frame(type="auth.error")
            assert (error["code"], error["action"]) == ("TOKEN_REVOKED", "sign_in")
            assert await seconds_to_the_end(page, began) <= CLOSED_WITHIN_SECONDS
            assert (await untouched.ask())["user_id"] == "eve"
        asked = running.auth.asked_about[token]
        refused = await running.ask(token)
        assert (refused.status, refused.code) == (401, "TOKEN_REVOKED")
        assert running.auth.asked_about[token] == asked


@pytest.mark.parametrize("item", [{"session_id": "s1"}, {"user_id": "ada"}])
async def test_an_opaque_token_is_found_by_what_was_said_of_it(item: dict[str, Any], tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        await following(running)
        token = running.auth.issue_opaque("ada", session_id="s1")
        async with opened(running.browser(token)) as page:
            await page.frame(notice="auth.assurance")
            began = time.monotonic()
            running.auth.revoke(**item)
            assert await seconds_to_the_end(page, began) <= CLOSED_WITHIN_SECONDS
        assert (await running.ask(token)).code in {"TOKEN_REVOKED", "TOKEN_REJECTED"}


async def test_a_cached_verdict_is_as_old_as_its_question(tmp_path: Path) -> None:
    """Validated, then revoked, then let in from the cache before the feed says so: the feed still closes it."""
    async with running_door(tmp_path) as running:
        await following(running)
        token = running.auth.issue_opaque("ada", session_id="s1")
        assert (await running.ask(token)).status == 101
        revoked_at_ms = int(time.time() * 1000) + 1
        await eventually(lambda: time.time() * 1000 > revoked_at_ms + 5, what="a moment later")
        async with opened(running.browser(token)) as page:
            assert (await page.frame(notice="auth.assurance"))["assurance"] == "cached"
            running.auth.revoke(user_id="ada", not_before_ms=revoked_at_ms)
            assert (await page.closed())[0] == 3000


async def test_a_later_token_of_the_user_is_good(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        await following(running)
        running.auth.revoke(user_id="ada", not_before_ms=int((time.time() - 60) * 1000))
        await eventually(lambda: len(running.issuer.memory.revocations) == 1, what="the feed has come in")
        assert (await running.ask(running.auth.issue("ada", age_seconds=61))).code == "TOKEN_REVOKED"
        assert (await running.ask(running.auth.issue("ada"))).status == 101


async def test_revoked_while_the_question_is_open(tmp_path: Path) -> None:
    """The answer was *valid* when it was given; the revocation came in before it arrived."""
    async with running_door(tmp_path, deadline_seconds=5.0, patience_seconds=5.0) as running:
        await following(running)
        token = running.auth.issue("ada", session_id="s1")
        running.auth.answer_with(200, {"valid": True, "user_id": "ada", "session_id": "s1", "permissions": ["chat"]})
        running.auth.latency_seconds = 2.0
        known = running.issuer.memory.revocations

        async def ask() -> Any:
            return await running.ask(token)

        asking = asyncio.create_task(ask())
        await eventually(lambda: running.auth.asked_about[token] == 1, what="the question is out")
        running.auth.latency_seconds = 0.0
        running.auth.revoke(session_id="s1")
        await eventually(lambda: len(known) == 1, what="the feed has come in")
        assert not asking.done()
        assert (await asking).code == "TOKEN_REVOKED"
        assert len(running.issuer.registry) == 0


async def test_a_provisional_connection_is_found_too(tmp_path: Path) -> None:
    options: dict[str, Any] = {"degrade": {"mode": "local_jwt"}, "deadline_seconds": 2.0, "patience_seconds": 0.05}
    async with running_door(tmp_path, **options) as running:
        await following(running)
        token = running.auth.issue("ada", session_id="s1")
        running.auth.latency_seconds = 30.0
        async with opened(running.browser(token)) as page:
            assert (await page.frame(notice="auth.assurance"))["assurance"] == "local"
            running.auth.latency_seconds = 0.0
            running.auth.revoke(session_id="s1")
            assert (await page.closed())[0] == 3000


async def test_after_a_refresh_the_new_token_is_the_one_to_revoke(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        await following(running)
        async with opened(running.browser(running.auth.issue("ada", session_id="s1", jti="old"))) as page:
            reply = await page.refresh(running.auth.issue("ada", session_id="s1", jti="new"))
            assert reply["ok"] is True
            running.auth.revoke(jti="old")
            await eventually(lambda: len(running.issuer.memory.revocations) == 1, what="the feed has come in")
            assert (await page.ask())["user_id"] == "ada"
            running.auth.revoke(jti="new")
            assert (await page.closed())[0] == 3000


async def test_every_socket_of_a_session_is_closed(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        await following(running)
        tokens = [running.auth.issue("ada", session_id="s1") for _ in range(3)]
        async with (
            opened(running.browser(tokens[0])) as first,
            opened(running.browser(tokens[1])) as second,
            opened(running.connect(tokens[2])) as third,
        ):
            await eventually(lambda: len(running.issuer.registry) == 3, what="all are in")
            running.auth.revoke(session_id="s1")
            for page in (first, second, third):
                assert (await page.closed())[0] == 3000
        await eventually(lambda: len(running.issuer.registry) == 0, what="the registry is empty")


async def test_a_lost_cursor_loads_a_snapshot_and_loses_nothing(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        await following(running)
        running.auth.revoke(session_id="s0")
        await eventually(lambda: len(running.issuer.memory.revocations) == 1, what="the feed has come in")
        async with opened(running.browser(running.auth.issue("ada", session_id="s1"))) as page:
            await page.frame(notice="auth.assurance")
            running.auth.expire_cursors()
            running.auth.revoke(session_id="s1")
            assert (await page.closed())[0] == 3000
        assert (await running.ask(running.auth.issue("eve", session_id="s0"))).code == "TOKEN_REVOKED"


async def test_an_app_that_learns_of_it_before_the_client_leaves_the_last_word_to_the_door(tmp_path: Path) -> None:
    """A server whose app returns cuts the connection, and the client could not tell that from a lost one."""
    may_send = asyncio.Event()

    async def pushing(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            raise RuntimeError("this app has no lifespan")
        await receive()
        await send({"type": "websocket.accept"})
        await may_send.wait()
        await send({"type": "websocket.send", "text": "too late"})

    async with running_door(tmp_path, app=pushing) as running:
        await running.settled()
        async with opened(running.connect(running.auth.issue("ada"))) as page:
            may_send.set()
            running.issuer.registry.revoke([RevocationItem(user_id="ada", not_before_ms=10**15)])
            code, reason = await page.closed()
            assert (code, reason.split(";")[0]) == (3000, "TOKEN_REVOKED")
