"""The revocation feed: numbered in the order of commits, kept for a while, followed by long poll.

The number comes from one row that is updated in the same transaction, so its lock is held until the commit: whoever sees number n
sees every number before it, on SQLite and PostgreSQL alike.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from doorward.authd import schema
from doorward.authd.keys import MAX_TOKEN_SECONDS
from doorward.authd.store import Store
from doorward.core.deadline import Deadline
from doorward.errors import LimitError
from doorward.runtime.ports import Clock, RevocationItem

KEEP_SECONDS = MAX_TOKEN_SECONDS + 3600.0
"""The longest token life and an hour: after that a revocation has nothing left to revoke."""

MAX_WAIT_SECONDS = 20.0
MAX_WAITING = 512
PAGE_ITEMS = 500
CURSOR_PATTERN = "[0-9]{1,18}"
LOOK_SECONDS = 0.25
"""How often a revocation committed by another process is looked for while anybody waits."""


class CursorGone(Exception):
    """Unknown epoch, or a cursor that is no longer (or not yet) in the feed: start from a snapshot."""


class Draining(LimitError):
    """The service is stopping; ask again in a moment."""


class TooManyWaiting(LimitError):
    """`MAX_WAITING` long polls wait already."""


@dataclass(frozen=True, slots=True)
class Page:
    """`as_of`: wall-clock seconds at which the store was asked. `more`: poll again at once."""

    epoch: str
    cursor: int
    as_of: float
    more: bool
    items: tuple[RevocationItem, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """What a follower has seen already."""

    epoch: str
    after: int


async def publish(tx: AsyncConnection, item: RevocationItem, wall_now: float) -> int:
    """Append to the feed, within the transaction that does the revoking. Returns the item's number."""
    result = await tx.execute(update(schema.feed).values(head=schema.feed.c.head + 1).returning(schema.feed.c.head))
    number = int(result.scalar_one())
    await tx.execute(
        insert(schema.revocations).values(
            seq=number,
            jti=item.jti,
            session_id=item.session_id,
            user_id=item.user_id,
            not_before_ms=item.not_before_ms,
            at=wall_now,
        )
    )
    return number


async def forget(tx: AsyncConnection, wall_now: float) -> None:
    """Drop revocations that have nothing left to revoke, and raise the floor past them."""
    table = schema.revocations
    old = table.c.at < wall_now - KEEP_SECONDS
    newest = (await tx.execute(select(func.max(table.c.seq)).where(old))).scalar_one()
    if newest is not None:
        await tx.execute(delete(table).where(table.c.seq <= newest))
        await tx.execute(update(schema.feed).values(floor=newest))


class Feed:
    """The read side of the feed, and the bell that wakes those who wait for it."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._bell = asyncio.Event()
        self._head = 0
        self._waiting = 0
        self._draining = False

    def ring(self) -> None:
        """A revocation was committed: everybody who waits looks now."""
        bell, self._bell = self._bell, asyncio.Event()
        bell.set()

    def drain(self) -> None:
        """Answer all long polls now and take no new ones."""
        self._draining = True
        self.ring()

    async def poll(self, position: Position | None, *, wait_seconds: float) -> Page:
        """The next page after `position`; without one the first page of a snapshot, which never waits.

        Args:
            wait_seconds: how long to wait for something new, 0 to `MAX_WAIT_SECONDS`.

        Raises:
            CursorGone: start from a snapshot.
            StoreError: could not look.
            Draining, TooManyWaiting: not now.

        Cancellation: nothing is left behind.
        """
        loop = asyncio.get_running_loop()
        deadline = Deadline.after(loop.time(), min(wait_seconds, MAX_WAIT_SECONDS))
        while True:
            if self._draining:
                raise Draining("the service is stopping")
            bell = self._bell  # taken before the look, so that what is committed after it cannot be missed
            page = await self._look(position)
            remaining = deadline.remaining(loop.time())
            if position is None or page.items or remaining <= 0:
                return page
            await self._wait(bell, remaining)

    async def look_for_others(self) -> None:
        """Ring if another process committed something. Called every `LOOK_SECONDS`; costs nothing while nobody waits.

        Raises:
            StoreError: could not look.

        Cancellation: nothing is left behind.
        """
        if not self._waiting:
            return
        head = await self._store.read(_head)
        if head != self._head:
            self._head = head
            self.ring()

    async def _wait(self, bell: asyncio.Event, seconds: float) -> None:
        if self._waiting >= MAX_WAITING:
            raise TooManyWaiting("too many long polls")
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds):
                await bell.wait()
        except TimeoutError:
            return
        finally:
            self._waiting -= 1

    async def _look(self, position: Position | None) -> Page:
        as_of = self._clock.wall()

        async def work(tx: AsyncConnection) -> Page:
            return await _page(tx, position, as_of)

        return await self._store.read(work)


async def _head(tx: AsyncConnection) -> int:
    return int((await tx.execute(select(schema.feed.c.head))).scalar_one())


async def _page(tx: AsyncConnection, position: Position | None, as_of: float) -> Page:
    epoch, head, floor = (await tx.execute(select(schema.feed.c.epoch, schema.feed.c.head, schema.feed.c.floor))).one()
    if position is not None and (position.epoch != epoch or not floor <= position.after <= head):
        raise CursorGone
    after = floor if position is None else position.after
    table = schema.revocations
    query = select(table).where(table.c.seq > after).order_by(table.c.seq).limit(PAGE_ITEMS + 1)
    rows = (await tx.execute(query)).all()
    taken = rows[:PAGE_ITEMS]
    return Page(
        epoch=epoch,
        cursor=taken[-1].seq if taken else after,
        as_of=as_of,
        more=len(rows) > PAGE_ITEMS,
        items=tuple(_item(row) for row in taken),
    )


def _item(row: Row[tuple[object, ...]]) -> RevocationItem:
    return RevocationItem(jti=row.jti, session_id=row.session_id, user_id=row.user_id, not_before_ms=row.not_before_ms)
