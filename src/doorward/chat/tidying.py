"""When the log of a thread is tidied: when the thread rests, and when it has grown although it never does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from doorward.errors import StoreError
from doorward.runtime.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from doorward.chat.eventlog import EventLog
    from doorward.chat.limits import ChatLimits
    from doorward.chat.store import ChatStore
    from doorward.chat.threads import Thread

log = get_logger(__name__)


class Tidying:
    """Joins deltas and drops what is past retention, of runs that have ended.

    Args:
        wall: wall-clock seconds.
    """

    def __init__(self, store: ChatStore, event_log: EventLog, limits: ChatLimits, *, wall: Callable[[], float]) -> None:
        self._store = store
        self._log = event_log
        self._limits = limits
        self._wall = wall

    async def grown(self, thread: Thread) -> None:
        """Tidy its log if it has grown by `untidied_events` since. Who holds the thread's turn can begin no run meanwhile.

        Never raises: what fails is left to `resting`.

        Cancellation: it may be done.
        """
        if thread.folded_seq - thread.tidied_seq < self._limits.untidied_events:
            return
        try:
            await self._tidy(thread.id, thread.folded_seq)
            thread.tidied_seq = thread.folded_seq
        except StoreError as error:
            log.warning("chat.not_tidied", error=str(error))

    async def resting(self) -> int:
        """Tidy a few threads that rest, that have grown, or that were not seen for long; returns how many.

        One that cannot be tidied is logged and left until it is its turn again; it stops no other.

        Raises:
            StoreError: some are left.

        Cancellation: some are left.
        """
        now = self._wall()
        untidy = await self._store.untidy(
            idle_before_ms=int((now - self._limits.tidy_after_seconds) * 1000),
            tidied_before_ms=int((now - self._limits.tidy_again_seconds) * 1000),
            grown_by=self._limits.untidied_events,
            limit=self._limits.tidied_threads,
        )
        for thread_id, up_to in untidy:
            try:
                await self._log.tidy(thread_id, up_to=up_to)
            except StoreError:  # not this thread's fault
                raise
            except Exception:
                log.exception("chat.not_tidied", thread_id=thread_id)
            await self._store.tidied(thread_id, up_to)
        return len(untidy)

    async def _tidy(self, thread_id: str, up_to: int) -> None:
        await self._log.tidy(thread_id, up_to=up_to)
        await self._store.tidied(thread_id, up_to)
