"""What the node remembers across restarts, held in memory and written through to the node store.

Reads never wait. A write that fails keeps its effect in this process, is logged, and is made up for by a later one: it never
turns a *no* into a *yes*, not after a restart either.

How long a revocation is kept is the feed's to say, because only the auth service knows how long its tokens live. So all of the feed
is loaded anew twice a day, and what it no longer has is forgotten (docs/adr/0016-the-feed-says-what-to-forget.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from doorward.core.limits import Lane
from doorward.core.revocation import Bars, RevocationSet
from doorward.core.verdict import user_id_of
from doorward.errors import StoreError
from doorward.runtime.log import get_logger
from doorward.runtime.ports import Clock, NodeStore, RevocationItem, RevocationPage, StoredBar

RENEW_SECONDS = 12 * 3600.0
"""So often all of the feed is loaded anew."""
UNRENEWED_SECONDS = 25 * 3600.0
"""What was not in the feed for so long is forgotten, once a whole snapshot has shown that it is not there."""
KEEP_REVOCATIONS_SECONDS = 90 * 86_400.0
"""The last bound, for what no snapshot has spoken of: the feed is gone, or the door is never up long enough."""
MAX_UNSTORED_ITEMS = 10_000
"""Revocations that wait for a disk that takes them. Past it they are fetched again, `RELOAD_SECONDS` later."""
RELOAD_SECONDS = 300.0
MAX_UNSTORED_LIFTS = 10_000
"""Past it a bar that could not be removed from the disk is there again after a restart, until the next live *valid*."""
RETRIED_BARS = 1_000
"""Writes that `tidy` makes up for in one go."""
CONTACT_EVERY_SECONDS = 5.0
TIDY_ROUNDS = 60
OVERFLOW = {Lane.PROVEN: b"overflow", Lane.UNPROVEN: b"overflow of strangers"}
"""Stand in the store for the bars that there was no room for. No digest is as short."""

log = get_logger("doorward")


class NodeMemory:
    """`last_contact` and `last_feed` are wall-clock seconds; `last_feed` is `None` where there never was a feed.

    Args:
        tenant: of the issuer whose tokens this is about; its feed knows the users by the names that it gave them itself, and so
            does the store.
    """

    def __init__(self, store: NodeStore, clock: Clock, *, follows_feed: bool = True, tenant: str | None = None) -> None:
        self.bars = Bars()
        self.revocations = RevocationSet()
        self.key = b""
        self.feed_epoch: str | None = None
        self.feed_cursor: str | None = None
        self.last_feed: float | None = None
        self.last_contact: float | None = None
        self._store = store
        self._clock = clock
        self._follows_feed = follows_feed
        self._tenant = tenant
        self._contact_written = 0.0
        self._reloading = False
        self._snapshot_began: float | None = None
        self._renew_at = math.inf
        self._forget_before = 0.0
        self._forget_stored_before = 0.0
        """The same on disk: no earlier than what renewed the others is there too."""
        self._unstored: dict[RevocationItem, None] | None = {}
        self._unstored_bars: dict[bytes, StoredBar | None] = {}

    @property
    def feed_as_of(self) -> float | None:
        """`last_feed`, as far as it may be relied on: while a lost cursor makes us reload all of it, it counts as stale."""
        return 0.0 if self._reloading else self.last_feed

    async def open(self) -> None:
        """Load everything.

        Raises:
            StoreError: the store cannot be used; a door that forgets who was refused must not start.
        """
        state = await self._store.open()
        self.key = state.key
        for bar in state.bars:
            lane = Lane.PROVEN if bar.proven else Lane.UNPROVEN
            if bar.digest == OVERFLOW[lane]:
                self.bars.overflowed(bar.until, lane)
            else:
                self.bars.add(bar.digest, bar.until, lane)
        for item, forget_at in state.revocations:
            revoke(self.revocations, of_tenant(item, self._tenant), forget_at)
            self._renew_at = min(self._renew_at, forget_at - KEEP_REVOCATIONS_SECONDS + RENEW_SECONDS)
        self.feed_epoch, self.feed_cursor = state.feed_epoch, state.feed_cursor
        self.last_feed = state.last_feed if self._follows_feed else None
        self.last_contact = state.last_contact

    async def aclose(self) -> None:
        await self._store.aclose()

    async def bar(self, digest: bytes, until: float, lane: Lane) -> None:
        """The auth service refused this token: on disk before the refusal is told. Where there is no room, that is on disk."""
        if self.bars.holds(digest, self._clock.wall()) and digest not in self._unstored_bars:
            return
        stored = digest if self.bars.add(digest, until, lane) else OVERFLOW[lane]
        await self._store_bar(stored, StoredBar(stored, until, lane is Lane.PROVEN))

    async def lift(self, digest: bytes) -> None:
        if self.bars.lift(digest) or digest in self._unstored_bars:
            await self._store_bar(digest, None)

    async def _store_bar(self, digest: bytes, bar: StoredBar | None) -> bool:
        """Write it, or remove it. What fails waits for the next word on this token, and for `tidy`; the latest word counts."""
        held = self._unstored_bars.get(digest)
        if bar is not None and held is not None and held.until > bar.until:
            bar = held  # all overflows of a lane share one digest
        if bar is not None or len(self._unstored_bars) < MAX_UNSTORED_LIFTS:
            self._unstored_bars[digest] = bar
        else:
            self._unstored_bars.pop(digest, None)
        try:
            await (self._store.add_bar(bar) if bar is not None else self._store.remove_bar(digest))
        except StoreError as error:
            if bar is not None:
                log.error("bar not stored; it holds in this process only", error=str(error))
            else:
                log.warning("bar not removed from the store", error=str(error))
            return False
        if self._unstored_bars.get(digest) is bar:
            self._unstored_bars.pop(digest, None)
        return True

    async def contact(self) -> None:
        """The auth service gave a live answer just now."""
        wall = self.last_contact = self._clock.wall()
        if wall - self._contact_written < CONTACT_EVERY_SECONDS:
            return
        self._contact_written = wall
        try:
            await self._store.note_contact(wall)
        except StoreError as error:
            self._contact_written = 0.0
            log.warning("last contact not stored", error=str(error))

    def lose_cursor(self) -> None:
        """The service no longer knows where we were: from here on only a full snapshot will do."""
        self.feed_epoch = self.feed_cursor = None
        self._reloading = self.last_feed is not None

    async def apply(self, page: RevocationPage, *, snapshot: bool, complete_at: float | None) -> None:
        """Take a page of the feed in.

        Args:
            snapshot: the page begins a full snapshot. It renews what was known before, and forgets nothing of it by itself.
            complete_at: wall-clock second at which the poll that completed the feed began; `None` while more is to come.
        """
        wall = self._clock.wall()
        forget_at = wall + KEEP_REVOCATIONS_SECONDS
        if snapshot:
            self._snapshot_began, self._renew_at = wall, math.inf
            self._unstored = {}  # all of it comes again
        self._renew_at = min(self._renew_at, wall + RENEW_SECONDS)
        for item in page.items:
            revoke(self.revocations, of_tenant(item, self._tenant), forget_at)
        self.feed_epoch, self.feed_cursor = page.epoch, page.cursor
        if complete_at is not None:
            self._complete(complete_at)
        await self._store_page(page, forget_at)
        if complete_at is not None and wall >= self._renew_at:
            # The next poll asks for a snapshot. Nothing is lost meanwhile, so nothing counts as stale.
            self.feed_epoch = self.feed_cursor = None

    def _complete(self, at: float) -> None:
        self.last_feed, self._reloading = at, False
        if self._snapshot_began is not None:
            self._forget_before = self._snapshot_began - UNRENEWED_SECONDS + KEEP_REVOCATIONS_SECONDS
            self._snapshot_began = None

    async def _store_page(self, page: RevocationPage, forget_at: float) -> None:
        """Write the page, with what could not be written before: the cursor on disk never passes an item that is not there.

        Too much of that, and the disk stays as it is, cursor and all, until a snapshot brings everything again.
        """
        if self._unstored is None:
            return
        self._unstored.update(dict.fromkeys(page.items))
        # Half a snapshot must not pass for a fresh feed after a restart.
        last_feed = self.feed_as_of or 0.0 if self._snapshot_began is None else 0.0
        whole = replace(page, items=tuple(self._unstored))
        try:
            await self._store.apply_page(whole, forget_at=forget_at, last_feed=last_feed)
        except StoreError as error:
            log.warning("revocations not stored", error=str(error), waiting=len(self._unstored))
            if len(self._unstored) > MAX_UNSTORED_ITEMS:
                self._unstored, self._renew_at = None, self._clock.wall() + RELOAD_SECONDS
        else:
            self._unstored.clear()
            if self._snapshot_began is None:
                self._forget_stored_before = self._forget_before

    async def redeem(self, kind: str, identifier: str, until: float) -> bool:
        """Use up something that may be used once on this node: true exactly once, over restarts too.

        Raises:
            StoreError: nobody knows whether it was used.
        """
        return await self._store.redeem(kind, identifier, until)

    async def tidy(self) -> None:
        """Forget what has run out, and write the bars that could not be written."""
        wall = self._clock.wall()
        self.bars.forget(wall)
        self.revocations.forget(max(wall, self._forget_before))
        await self._retry_bars(wall)
        try:
            for _ in range(TIDY_ROUNDS):
                if not await self._store.forget_expired(wall, revocations_before=self._forget_stored_before):
                    break
        except StoreError as error:
            log.warning("store not tidied", error=str(error))

    async def _retry_bars(self, wall: float) -> None:
        """Proven ones first, until one fails."""
        for digest in [each for each, bar in self._unstored_bars.items() if bar is not None and bar.until <= wall]:
            del self._unstored_bars[digest]
        waiting = sorted(self._unstored_bars.items(), key=lambda each: each[1] is None or not each[1].proven)
        for digest, bar in waiting[:RETRIED_BARS]:
            still = digest in self._unstored_bars and self._unstored_bars[digest] is bar
            if still and not await self._store_bar(digest, bar):
                return


def of_tenant(item: RevocationItem, tenant: str | None) -> RevocationItem:
    """With the user's id as this door knows it."""
    if tenant is None or item.user_id is None:
        return item
    return replace(item, user_id=user_id_of(item.user_id, tenant))


def revoke(known: RevocationSet, item: RevocationItem, forget_at: float) -> None:
    if item.jti is not None:
        known.revoke_jti(item.jti, forget_at)
    elif item.session_id is not None:
        known.revoke_session(item.session_id, forget_at)
    elif item.user_id is not None:
        known.revoke_user(item.user_id, (item.not_before_ms or 0) / 1000, forget_at)


def concerned(items: Sequence[RevocationItem]) -> RevocationSet:
    """Just these items, to find the open connections that they are about."""
    found = RevocationSet()
    for item in items:
        revoke(found, item, float("inf"))
    return found
