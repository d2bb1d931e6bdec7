"""The revocation feed: order, pages, snapshots, waiting, forgetting."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.postgres import DATABASES, empty_database

from doorward.authd import feed
from doorward.authd.feed import KEEP_SECONDS, MAX_WAITING, PAGE_ITEMS, CursorGone, Draining, Feed, Page, Position
from doorward.authd.store import Store
from doorward.errors import LimitError
from doorward.runtime.ports import RevocationItem
from doorward.testing import ManualClock, eventually

WAKE_SECONDS = 0.5


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str | None:
    return empty_database(request)


@pytest.fixture
def followed(store: Store, clock: ManualClock) -> Feed:
    return Feed(store, clock)


async def publish(store: Store, *jtis: str, at: float = 1.0) -> None:
    async def work(tx: AsyncConnection) -> None:
        for jti in jtis:
            await feed.publish(tx, RevocationItem(jti=jti), at)

    await store.write(work)


async def forget(store: Store, wall_now: float) -> None:
    async def work(tx: AsyncConnection) -> None:
        await feed.forget(tx, wall_now)

    await store.write(work)


def after(page: Page) -> Position:
    return Position(page.epoch, page.cursor)


def jtis(page: Page) -> list[str | None]:
    return [item.jti for item in page.items]


async def test_an_empty_feed_has_a_cursor_too(followed: Feed, clock: ManualClock) -> None:
    page = await followed.poll(None, wait_seconds=20)
    assert (page.items, page.more, page.as_of) == ((), False, clock.wall())
    again = await followed.poll(after(page), wait_seconds=0)
    assert after(again) == after(page)


async def test_items_come_once_and_in_order(followed: Feed, store: Store) -> None:
    start = await followed.poll(None, wait_seconds=0)
    await publish(store, "a", "b")
    await publish(store, "c")
    page = await followed.poll(after(start), wait_seconds=0)
    assert jtis(page) == ["a", "b", "c"]
    assert jtis(await followed.poll(after(page), wait_seconds=0)) == []


async def test_all_kinds_of_items_survive(followed: Feed, store: Store) -> None:
    items = (
        RevocationItem(jti="j"),
        RevocationItem(session_id="s"),
        RevocationItem(user_id="u", not_before_ms=1_750_000_000_123),
    )

    async def work(tx: AsyncConnection) -> None:
        for item in items:
            await feed.publish(tx, item, 1.0)

    await store.write(work)
    assert (await followed.poll(None, wait_seconds=0)).items == items


async def test_pages_say_that_there_is_more(followed: Feed, store: Store) -> None:
    names = [f"j{number}" for number in range(PAGE_ITEMS + 1)]
    await publish(store, *names)
    first = await followed.poll(None, wait_seconds=20)
    assert first.more
    second = await followed.poll(after(first), wait_seconds=20)
    assert not second.more
    assert jtis(first) + jtis(second) == names


async def test_a_rolled_back_revocation_takes_no_number(followed: Feed, store: Store) -> None:
    async def work(tx: AsyncConnection) -> None:
        await feed.publish(tx, RevocationItem(jti="never"), 1.0)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await store.write(work)
    await publish(store, "a")
    page = await followed.poll(None, wait_seconds=0)
    assert (jtis(page), page.cursor) == (["a"], 1)


@pytest.mark.parametrize("position", [Position("another", 0), Position("", 3)])
async def test_another_epoch_is_gone(followed: Feed, position: Position) -> None:
    with pytest.raises(CursorGone):
        await followed.poll(position, wait_seconds=0)


async def test_a_cursor_past_the_head_is_gone(followed: Feed) -> None:
    page = await followed.poll(None, wait_seconds=0)
    with pytest.raises(CursorGone):
        await followed.poll(Position(page.epoch, page.cursor + 1), wait_seconds=0)


async def test_what_was_forgotten_expires_the_cursor_and_leaves_the_snapshot(followed: Feed, store: Store) -> None:
    start = await followed.poll(None, wait_seconds=0)
    await publish(store, "old", at=100.0)
    await publish(store, "new", at=200.0)
    await forget(store, 200.0 + KEEP_SECONDS)
    with pytest.raises(CursorGone):
        await followed.poll(after(start), wait_seconds=0)
    snapshot = await followed.poll(None, wait_seconds=0)
    assert jtis(snapshot) == ["new"]
    await forget(store, 201.0 + KEEP_SECONDS)
    assert jtis(await followed.poll(after(snapshot), wait_seconds=0)) == []
    await publish(store, "next", at=9000.0)
    assert jtis(await followed.poll(after(snapshot), wait_seconds=0)) == ["next"]


async def test_a_ring_wakes_everybody_at_once(followed: Feed, store: Store) -> None:
    start = after(await followed.poll(None, wait_seconds=0))
    polls = [asyncio.create_task(followed.poll(start, wait_seconds=20)) for _ in range(5)]
    await eventually(lambda: followed._waiting == 5, what="five long polls wait")
    await publish(store, "a")
    rung = time.monotonic()
    followed.ring()
    pages = await asyncio.wait_for(asyncio.gather(*polls), 5)
    assert time.monotonic() - rung < WAKE_SECONDS
    assert [jtis(page) for page in pages] == [["a"]] * 5


async def test_another_process_is_noticed_and_the_wait_goes_on_until_then(followed: Feed, store: Store) -> None:
    start = after(await followed.poll(None, wait_seconds=0))
    poll = asyncio.create_task(followed.poll(start, wait_seconds=20))
    await eventually(lambda: followed._waiting == 1, what="a long poll waits")
    await followed.look_for_others()
    await asyncio.sleep(0)
    assert not poll.done()
    await publish(store, "a")
    await followed.look_for_others()
    assert jtis(await asyncio.wait_for(poll, 5)) == ["a"]


async def test_a_wait_ends_empty_with_a_fresh_time(followed: Feed, clock: ManualClock) -> None:
    start = after(await followed.poll(None, wait_seconds=0))
    poll = asyncio.create_task(followed.poll(start, wait_seconds=0.1))
    await eventually(lambda: followed._waiting == 1, what="a long poll waits")
    clock.advance(7)
    page = await asyncio.wait_for(poll, 5)
    assert (page.items, page.as_of) == ((), clock.wall())


async def test_draining_answers_everybody(followed: Feed) -> None:
    start = after(await followed.poll(None, wait_seconds=0))
    poll = asyncio.create_task(followed.poll(start, wait_seconds=20))
    await eventually(lambda: followed._waiting == 1, what="a long poll waits")
    followed.drain()
    with pytest.raises(Draining):
        await asyncio.wait_for(poll, 1)
    with pytest.raises(Draining):
        await followed.poll(None, wait_seconds=0)


async def test_too_many_long_polls_are_refused_and_a_cancelled_one_gives_its_place_back(followed: Feed) -> None:
    start = after(await followed.poll(None, wait_seconds=0))
    followed._waiting = MAX_WAITING - 1
    poll = asyncio.create_task(followed.poll(start, wait_seconds=20))
    await eventually(lambda: followed._waiting == MAX_WAITING, what="the last place is taken")
    with pytest.raises(LimitError):
        await followed.poll(start, wait_seconds=1)
    poll.cancel()
    await asyncio.wait({poll}, timeout=2)
    assert followed._waiting == MAX_WAITING - 1
