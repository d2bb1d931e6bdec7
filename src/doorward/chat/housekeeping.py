"""What has to be done now and then: end runs that were left behind, and tidy the logs of threads that rest."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from doorward.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from doorward.chat.eventlog import EventLog
    from doorward.chat.limits import ChatLimits
    from doorward.chat.recovery import Recovery
    from doorward.chat.store import ChatStore

log = structlog.get_logger(__name__)


class Housekeeping:
    """Rounds of bounded work. A round that fails is logged, and the next one does what it left.

    Args:
        wall: wall-clock seconds.
    """

    def __init__(
        self,
        store: ChatStore,
        event_log: EventLog,
        recovery: Recovery,
        limits: ChatLimits,
        *,
        wall: Callable[[], float],
    ) -> None:
        self._store = store
        self._log = event_log
        self._recovery = recovery
        self._limits = limits
        self._wall = wall

    async def run(self) -> None:
        """Rounds until cancelled.

        Cancellation: a round may be half done; the next process does the rest.
        """
        while True:
            await asyncio.sleep(self._limits.housekeeping_seconds)
            try:
                await self._recovery.run()
                await self.tidy()
            except StoreError as error:
                log.warning("chat.housekeeping_failed", error=str(error))
            except Exception:
                log.exception("chat.housekeeping_failed")

    async def tidy(self) -> int:
        """Tidy the logs of a few threads, those that wait longest first; returns how many.

        Raises:
            StoreError: some are left.

        Cancellation: some are left.
        """
        now = self._wall()
        untidy = await self._store.untidy(
            idle_before_ms=int((now - self._limits.tidy_after_seconds) * 1000),
            tidied_before_ms=int((now - self._limits.tidy_again_seconds) * 1000),
            limit=self._limits.tidied_threads,
        )
        for thread_id, up_to in untidy:
            await self._log.tidy(thread_id, up_to=up_to)
            await self._store.tidied(thread_id, up_to)
        return len(untidy)
