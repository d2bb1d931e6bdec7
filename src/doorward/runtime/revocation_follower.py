"""Follows the revocation feed: a snapshot first, then a long poll after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from doorward.core.backoff import next_delay
from doorward.core.deadline import Deadline
from doorward.errors import BackendError
from doorward.runtime.bounded import Reaper, bounded
from doorward.runtime.log import get_logger
from doorward.runtime.memory import NodeMemory
from doorward.runtime.ports import Clock, CursorExpired, FeedMissing, RevocationItem, RevocationPage, RevocationSource

WAIT_SECONDS = 20.0
ANSWER_SECONDS = 5.0
MISSING_SECONDS = 60.0
RETRY_BASE_SECONDS = 0.5
RETRY_CAP_SECONDS = 5.0
MIN_POLL_SECONDS = 0.25
"""A service that answers a long poll at once, with nothing new, is not asked again sooner than this."""

log = get_logger("doorward")


class RevocationFollower:
    """`on_items` hears of every item as it comes in, so that open connections can be closed.

    Args:
        issuer: the name of the one whose feed it is.
    """

    def __init__(
        self,
        issuer: str,
        source: RevocationSource,
        memory: NodeMemory,
        *,
        clock: Clock,
        reaper: Reaper,
        uniform: Callable[[], float],
        on_items: Callable[[Sequence[RevocationItem]], None],
    ) -> None:
        self.state = "unknown"
        self.last_error: str | None = None
        self._issuer = issuer
        self._source = source
        self._memory = memory
        self._clock = clock
        self._reaper = reaper
        self._uniform = uniform
        self._on_items = on_items
        self._snapshot_pending = False

    async def run(self) -> None:
        """Poll for ever. Backs off with jitter while the feed cannot be had."""
        attempt = 0
        while True:
            try:
                if not await self._poll():
                    await asyncio.sleep(MIN_POLL_SECONDS)
                attempt = 0
            except FeedMissing:
                self._missing()
                await asyncio.sleep(MISSING_SECONDS)
            except (CursorExpired, BackendError) as error:
                self._failed(error)
                attempt += 1
                delay = next_delay(
                    attempt, base_seconds=RETRY_BASE_SECONDS, cap_seconds=RETRY_CAP_SECONDS, uniform=self._uniform()
                )
                await asyncio.sleep(RETRY_BASE_SECONDS / 2 + delay)

    async def _poll(self) -> bool:
        """Take one page in. False if it brought nothing, and came at once."""
        began, asked_at, cursor = self._clock.wall(), self._clock.monotonic(), self._memory.feed_cursor
        page = await self._ask()
        took_seconds = self._clock.monotonic() - asked_at
        snapshot = cursor is None
        self._snapshot_pending = self._snapshot_pending or snapshot
        complete_at = None if page.more else began
        await self._memory.apply(page, snapshot=snapshot, complete_at=complete_at)
        self._on_items(page.items)
        self._snapshot_pending = self._snapshot_pending and page.more
        self.last_error, self.state = None, "live"
        return page.cursor != cursor or took_seconds >= MIN_POLL_SECONDS

    async def _ask(self) -> RevocationPage:
        cursor = self._memory.feed_cursor
        wait = 0.0 if cursor is None or self._snapshot_pending or self.state != "live" else WAIT_SECONDS
        deadline = Deadline.after(self._clock.monotonic(), wait + ANSWER_SECONDS)
        poll = self._source.poll(epoch=self._memory.feed_epoch, cursor=cursor, wait_seconds=wait, deadline=deadline)
        return await bounded(poll, deadline, clock=self._clock, reaper=self._reaper)

    def _missing(self) -> None:
        """One that was there is demanded all the same: a proxy's 404 must not make the door less strict. An operator may."""
        if self.state != "missing" and self._memory.last_feed is not None:
            log.warning(
                "the revocation feed is gone",
                issuer=self._issuer,
                mend='check its revocations_path; if it has no feed any more, set its revocations to "off"',
            )
        self.state = "missing"

    def _failed(self, error: CursorExpired | BackendError) -> None:
        if isinstance(error, CursorExpired):
            log.warning("the revocation cursor has run out; loading a full snapshot", issuer=self._issuer)
            self._memory.lose_cursor()
        elif self.last_error is None:
            log.warning(
                "the revocation feed does not answer", issuer=self._issuer, error=f"{type(error).__name__}: {error}"
            )
        self.last_error = f"{type(error).__name__}: {error}"
        self.state = "stale"
