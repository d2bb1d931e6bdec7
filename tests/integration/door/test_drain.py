"""A drain answers everybody: new handshakes, pending ones and open sockets, and says when to come back."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

from tests.door_client import Page, opened
from tests.door_server import running_door, whoami

from doorward.asgi.types import Receive, Scope, Send
from doorward.core.deadline import Deadline
from doorward.testing import FakeAuthService, Fault, FaultProxy, eventually

SOCKETS = 8


async def test_open_sockets_are_told_and_closed_one_after_the_other(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running, AsyncExitStack() as stack:
        await running.settled()
        pages: list[Page] = []
        for number in range(SOCKETS):
            token = running.auth.issue(f"user-{number}")
            pages.append(await stack.enter_async_context(opened(running.browser(token))))
        await eventually(lambda: len(running.issuer.registry) == SOCKETS, what="all are in")
        ends: list[float] = []

        async def end_of(page: Page) -> None:
            notice = await page.frame(notice="server.draining")
            error = await page.frame(type="auth.error")
            code, reason = await page.closed()
            ends.append(time.monotonic())
            assert code == 1012
            assert (error["code"], error["action"]) == ("RESTARTING", "retry")
            assert notice["retry_after_ms"] == error["retry_after_ms"] >= 0
            assert reason == f"RESTARTING;retry_after_ms={error['retry_after_ms']};id={error['decision_id']}"

        began = time.monotonic()
        await asyncio.gather(running.door.drain(spread_seconds=0.8), *(end_of(page) for page in pages))
        ends.sort()
        assert ends[0] - began < 0.4
        assert 0.4 <= ends[-1] - ends[0] <= 1.5
        await eventually(lambda: len(running.issuer.registry) == 0, what="the registry is empty")


async def test_advice_spreads_the_open_sockets(tmp_path: Path) -> None:
    """Five seconds are not enough for a thousand sockets at one reconnect a second; here: four at 0.2 a second."""
    limits = {"reconnect_rate_per_second": 0.2}
    async with running_door(tmp_path, limits=limits) as running, AsyncExitStack() as stack:
        await running.settled()
        pages = [
            await stack.enter_async_context(opened(running.browser(running.auth.issue(f"user-{number}"))))
            for number in range(4)
        ]
        await eventually(lambda: len(running.issuer.registry) == 4, what="all are in")
        running.door.denier._uniform = lambda: 0.999
        await running.door.drain(spread_seconds=0.0)
        waits = [(await page.frame(notice="server.draining"))["retry_after_ms"] for page in pages]
        assert min(waits) > 20_000
        assert max(waits) <= 300_000


async def test_new_handshakes_are_sent_elsewhere(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        await running.settled()
        token = running.auth.issue("ada")
        await running.door.drain(spread_seconds=0.0)
        answer = await running.ask(token)
        assert (answer.status, answer.code) == (503, "RESTARTING")
        assert answer.retry_after_ms is not None
        async with opened(running.browser(token)) as page:
            assert (await page.frame(type="auth.error"))["code"] == "RESTARTING"
            assert (await page.closed())[0] == 1012
        assert running.auth.asked_about[token] == 0
        assert [record.source for record in running.records] == ["drain", "drain"]


async def test_a_pending_handshake_is_answered(tmp_path: Path) -> None:
    async with running_door(tmp_path, deadline_seconds=1.0) as running:
        await running.settled()
        running.auth.latency_seconds = 0.4
        token = running.auth.issue_opaque("ada")
        pending = asyncio.create_task(running.ask(token))
        await eventually(lambda: running.auth.asked_about[token] == 1, what="the question is out")
        await running.door.drain(spread_seconds=0.0)
        assert running.door.handshakes == 0, "who called may stop the server now"
        assert [record.code for record in running.records] == ["RESTARTING"]
        answer = await pending
        assert (answer.status, answer.code) == (503, "RESTARTING")
        assert len(running.issuer.registry) == 0


async def test_a_drain_does_not_wait_longer_than_it_is_told(tmp_path: Path) -> None:
    async with running_door(tmp_path, deadline_seconds=3.0) as running:
        await running.settled()
        running.auth.latency_seconds = 2.5
        token = running.auth.issue_opaque("ada")
        pending = asyncio.create_task(running.ask(token))
        await eventually(lambda: running.auth.asked_about[token] == 1, what="the question is out")
        now = asyncio.get_running_loop().time()
        await running.door.drain(spread_seconds=0.0, deadline=Deadline(now + 0.1))
        assert running.door.handshakes == 1
        assert (await pending).code == "RESTARTING"


async def test_an_app_that_fails_of_the_close_does_not_get_in_the_way_of_the_last_word(tmp_path: Path) -> None:
    """As most apps do that never catch a disconnect: the server answers a failed app with a close of its own."""
    failed = asyncio.Event()

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        failed.set()
        raise RuntimeError("it did not see that coming")

    async with running_door(tmp_path, app=fails) as running:
        await running.settled()
        async with opened(running.connect(running.auth.issue("ada"))) as page:
            await eventually(lambda: len(running.issuer.registry) == 1, what="it is in")
            await running.door.drain(spread_seconds=0.0)
            code, reason = await page.closed()
            assert (code, reason.partition(";")[0]) == (1012, "RESTARTING")
            assert failed.is_set()


async def test_a_handshake_that_the_app_has_not_accepted_is_answered_too(tmp_path: Path) -> None:
    entered = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await whoami(scope, receive, send)
        entered.set()
        await asyncio.Event().wait()

    async with running_door(tmp_path, app=slow, session={"app_exit_seconds": 0.2}) as running:
        await running.settled()
        pending = asyncio.create_task(running.ask(running.auth.issue("ada")))
        async with asyncio.timeout(5):
            await entered.wait()
        began = time.monotonic()
        await running.door.drain(spread_seconds=0.0)
        answer = await pending
        assert (answer.status, answer.code) == (503, "RESTARTING")
        assert time.monotonic() - began < 1.0
        await eventually(lambda: len(running.issuer.registry) == 0, what="the app has left")


async def test_the_deadline_ends_the_spreading(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        await running.settled()
        async with opened(running.browser(running.auth.issue("ada"))) as page:
            await page.frame(notice="auth.assurance")
            now = asyncio.get_running_loop().time()
            began = time.monotonic()
            await running.door.drain(spread_seconds=60.0, deadline=Deadline(now + 0.2))
            assert (await page.closed())[0] == 1012
            assert time.monotonic() - began < 1.0


async def test_readiness(tmp_path: Path) -> None:
    """Ready with the first key set; an outage later does not change it, a drain does."""
    async with running_door(tmp_path) as running:
        await running.settled()
        assert running.door.ready
        running.proxy.fault = Fault.REFUSE
        await running.ask(running.auth.issue("ada"))
        assert running.door.in_outage
        assert running.door.ready
        running.door.turn_away()
        assert not running.door.ready
        assert (await running.ask(running.auth.issue("eve"))).code != "RESTARTING"
        await running.door.drain(spread_seconds=0.0)
        assert not running.door.ready


async def test_not_ready_before_the_first_key_set_or_ten_seconds(tmp_path: Path) -> None:
    async with (
        FakeAuthService() as auth,
        FaultProxy(auth.host, auth.port, seed=1, fault=Fault.REFUSE) as proxy,
        running_door(tmp_path, auth=auth, proxy=proxy) as running,
    ):
        door = running.door
        assert door.opened_at is not None
        assert not door.ready
        door.opened_at -= 10.0
        assert door.ready
        door.opened_at += 10.0
        proxy.fault = Fault.NONE
        await eventually(lambda: door.ready, within_seconds=10, what="the key set has come")
