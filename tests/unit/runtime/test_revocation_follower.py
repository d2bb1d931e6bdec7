"""The revocation feed, followed: snapshot, long polls, lost cursors, a feed that is not there or misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
from structlog.testing import capture_logs
from tests.runtime_kit import FakeStore, Feed, page, virtual

from doorward.core.verdict import Principal
from doorward.errors import ConnectError
from doorward.runtime.bounded import Reaper
from doorward.runtime.memory import RENEW_SECONDS, NodeMemory
from doorward.runtime.ports import CursorExpired, FeedMissing, RevocationItem
from doorward.runtime.revocation_follower import (
    ANSWER_SECONDS,
    MIN_POLL_SECONDS,
    MISSING_SECONDS,
    WAIT_SECONDS,
    RevocationFollower,
)
from doorward.testing import VirtualClock

CLOCK = VirtualClock()
JTI, SESSION = RevocationItem(jti="j1"), RevocationItem(session_id="s1")


class Followed:
    def __init__(self, *script: object, store: FakeStore | None = None) -> None:
        self.feed = Feed(list(script))  # type: ignore[arg-type]  # pages and errors
        self.store = store or FakeStore()
        self.memory = NodeMemory(self.store, CLOCK)
        self.heard: list[RevocationItem] = []
        self.follower = RevocationFollower(
            "auth", self.feed, self.memory, clock=CLOCK, reaper=Reaper(), uniform=lambda: 0.5, on_items=self._hear
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.memory.open()
        task = asyncio.create_task(self.follower.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def _hear(self, items: Sequence[RevocationItem]) -> None:
        self.heard.extend(items)

    def revoked(self, **identity: str) -> bool:
        return self.memory.revocations.is_revoked(Principal("ada", "iss", **identity))  # type: ignore[arg-type]


@virtual
async def test_a_snapshot_first_then_one_long_poll_after_the_other() -> None:
    followed = Followed(page("1", JTI), page("2", SESSION))
    async with followed.running():
        await asyncio.sleep(1.0)
        assert followed.feed.polls == [(None, None, 0.0), ("e1", "1", WAIT_SECONDS), ("e1", "2", WAIT_SECONDS)]
        assert followed.heard == [JTI, SESSION]
        assert followed.revoked(jti="j1")
        assert followed.revoked(session_id="s1")
        assert followed.follower.state == "live"
        assert followed.memory.last_feed == pytest.approx(CLOCK.wall(), abs=1.1)


@virtual
async def test_pages_of_a_snapshot_are_fetched_without_waiting_and_only_the_last_makes_it_fresh() -> None:
    followed = Followed(page("1", JTI, more=True), ConnectError("reset"), page("2", SESSION))
    async with followed.running():
        await asyncio.sleep(0.01)
        assert followed.memory.last_feed is None
        assert followed.revoked(jti="j1")
        await asyncio.sleep(2.0)
        assert followed.memory.last_feed is not None
    assert followed.feed.polls == [
        (None, None, 0.0),
        ("e1", "1", 0.0),
        ("e1", "1", 0.0),
        ("e1", "2", WAIT_SECONDS),
    ]


@virtual
async def test_a_lost_cursor_loads_everything_again_and_counts_as_stale_until_then() -> None:
    followed = Followed(page("1", JTI), CursorExpired("410"), page("7", SESSION, epoch="e2", more=True))
    async with followed.running():
        followed.feed.silent = True
        await asyncio.sleep(1.0)
        assert followed.feed.polls[2:] == [(None, None, 0.0), ("e2", "7", 0.0)]
        assert followed.memory.feed_as_of == 0.0
        assert followed.revoked(jti="j1"), "what was known holds"
        assert followed.store.last_feed == 0.0, "a restart now must not take half a snapshot for a fresh feed"
        followed.feed.silent = False
        await asyncio.sleep(30.0)
        assert followed.memory.feed_as_of == followed.memory.last_feed != 0.0
        assert followed.revoked(session_id="s1")


@virtual
async def test_a_service_that_knows_no_cursor_at_all_is_not_hammered() -> None:
    followed = Followed(*(CursorExpired("410") for _ in range(10_000)))
    async with followed.running():
        await asyncio.sleep(60.0)
    assert len(followed.feed.polls) <= 60
    assert followed.follower.state == "stale"


@virtual
async def test_a_service_that_answers_every_long_poll_at_once_is_not_hammered() -> None:
    followed = Followed(*(page("1") for _ in range(10_000)))
    async with followed.running():
        await asyncio.sleep(60.0)
    assert len(followed.feed.polls) <= 60.0 / MIN_POLL_SECONDS + 2


@virtual
async def test_a_service_that_always_has_more_of_the_same_is_not_hammered() -> None:
    followed = Followed(*(page("1", JTI, more=True) for _ in range(10_000)))
    async with followed.running():
        await asyncio.sleep(60.0)
    assert len(followed.feed.polls) <= 60.0 / MIN_POLL_SECONDS + 2


@virtual
async def test_a_missing_feed_is_looked_for_once_a_minute() -> None:
    followed = Followed(*(FeedMissing("404") for _ in range(100)))
    async with followed.running():
        await asyncio.sleep(10 * MISSING_SECONDS - 1)
    assert len(followed.feed.polls) == 10
    assert followed.follower.state == "missing"
    assert followed.memory.last_feed is None


@virtual
async def test_a_feed_that_is_gone_is_demanded_all_the_same_and_that_is_said_once() -> None:
    followed = Followed(page("1", JTI), *(FeedMissing("404") for _ in range(100)))
    with capture_logs() as logs:
        async with followed.running():
            await asyncio.sleep(10 * MISSING_SECONDS)
    (said,) = [each for each in logs if each["event"] == "the revocation feed is gone"]
    assert "revocations" in said["mend"]
    assert followed.memory.feed_as_of == pytest.approx(CLOCK.wall() - 10 * MISSING_SECONDS, abs=MISSING_SECONDS)
    assert followed.revoked(jti="j1")


@virtual
async def test_while_it_cannot_be_had_it_is_stale_and_asked_without_waiting() -> None:
    followed = Followed(page("1", JTI), *(ConnectError("refused") for _ in range(20)), page("2", SESSION))
    async with followed.running():
        await asyncio.sleep(10.0)
        assert followed.follower.state == "stale"
        assert followed.follower.last_error == "ConnectError: refused"
        assert followed.revoked(jti="j1")
        assert {poll[2] for poll in followed.feed.polls[2:]} == {0.0}
        assert len(followed.feed.polls) <= 12
        await asyncio.sleep(120.0)
        assert followed.heard == [JTI, SESSION]
        assert followed.follower.last_error is None


@virtual
async def test_a_poll_that_hangs_ends_by_itself() -> None:
    followed = Followed(page("1", JTI))
    followed.feed.silent = True
    async with followed.running():
        await asyncio.sleep(0.001 + WAIT_SECONDS + ANSWER_SECONDS + 0.1)
        assert followed.follower.state == "stale"
        assert followed.follower.last_error == "DeadlinePassed: no answer before the deadline"


@virtual
async def test_a_restart_goes_on_where_it_was() -> None:
    store = FakeStore()
    first = Followed(page("1", JTI), store=store)
    async with first.running():
        await asyncio.sleep(1.0)
    second = Followed(page("2", SESSION), store=store)
    async with second.running():
        assert second.revoked(jti="j1")
        await asyncio.sleep(1.0)
        assert second.feed.polls[0] == ("e1", "1", 0.0)
        assert second.heard == [SESSION]


@virtual
async def test_all_of_it_is_loaded_anew_twice_a_day_and_is_fresh_all_the_while() -> None:
    followed = Followed(page("1", JTI))
    async with followed.running():
        await asyncio.sleep(RENEW_SECONDS - 60.0)
        assert len([poll for poll in followed.feed.polls if poll[1] is None]) == 1
        await asyncio.sleep(120.0)
        assert [poll[2] for poll in followed.feed.polls if poll[1] is None] == [0.0, 0.0]
        assert followed.feed.polls[-1][1:] == ("0", WAIT_SECONDS)
        assert followed.memory.feed_as_of == pytest.approx(CLOCK.wall(), abs=2 * WAIT_SECONDS + 1)
