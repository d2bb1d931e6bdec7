"""Threads (conversations): each belongs to one user, and to nobody else it exists. The store has them all, memory those in use."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from doorward.chat.commands import ErrorCode, Fault
from doorward.chat.mailbox import Ending
from doorward.chat.store import Full
from doorward.chat.transcript import trimmed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from doorward.chat.eventlog import EventLog
    from doorward.chat.limits import ChatLimits
    from doorward.chat.notices import Notices
    from doorward.chat.runs import Run
    from doorward.chat.store import ChatStore, StoredThread, ThreadRow
    from doorward.chat.transcript import Message

NOT_FOUND = Fault(ErrorCode.NOT_FOUND, "there is no such thread")
TOO_MANY = Fault(ErrorCode.TOO_MANY_THREADS, "you have as many threads as there may be; delete one")


@dataclass(slots=True, eq=False)
class Thread:
    """One conversation in use. `messages` say what the events up to `folded_seq` said; its log was tidied up to `tidied_seq`.

    Who begins or ends a run, or deletes the thread, holds `turn` meanwhile: each of its holders is bounded by the store's bounds.
    """

    id: str
    owner: str
    messages: list[Message] = field(default_factory=list)
    folded_seq: int = 0
    tidied_seq: int = 0
    active: Run | None = None
    run_ids: OrderedDict[str, None] = field(default_factory=OrderedDict)
    followers: int = 0
    deleted: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def idle(self) -> bool:
        """Nobody would miss it in memory at this moment: no run, and no socket that follows it."""
        return self.active is None and self.followers == 0 and not self.turn.locked()

    def remember(self, run_id: str, *, at_most: int) -> None:
        self.run_ids[run_id] = None
        while len(self.run_ids) > at_most:
            self.run_ids.popitem(last=False)

    def fold(self, messages: Sequence[Message], *, up_to: int, limits: ChatLimits) -> None:
        """A run has ended: what it said becomes history."""
        joined = [*self.messages, *messages]
        self.messages = trimmed(joined, max_messages=limits.history_messages, max_bytes=limits.history_bytes)
        self.folded_seq = up_to


class Threads:
    """The threads in use, least recently used first. Makes room by letting go of the oldest idle one; the store keeps it."""

    def __init__(self, store: ChatStore, log: EventLog, limits: ChatLimits, notices: Notices) -> None:
        self._store = store
        self._notices = notices
        self._log = log
        self._limits = limits
        self._threads: OrderedDict[str, Thread] = OrderedDict()

    def __len__(self) -> int:
        return len(self._threads)

    async def find(self, thread_id: str, user_id: str) -> Thread | Fault:
        """The user's own thread.

        Raises:
            StoreError: it could not be looked up.

        Cancellation: leaves nothing behind.
        """
        if known := self._known(thread_id, user_id):
            return known
        stored = await self._store.thread(thread_id, user_id)
        return NOT_FOUND if stored is None else await self._take_up(stored)

    async def open(self, thread_id: str, user_id: str) -> Thread | Fault:
        """The user's own thread, made if the name is free.

        Raises:
            StoreError: it could not be looked up, or made.

        Cancellation: it may be made.
        """
        if known := self._known(thread_id, user_id):
            return known
        created = await self._created(thread_id, user_id, None)
        return created if isinstance(created, Fault) else await self._take_up(created[0])

    async def create(self, thread_id: str, user_id: str, title: str | None) -> tuple[ThreadRow, bool] | Fault:
        """The user's own thread as it is listed, and whether it was made now.

        Raises:
            StoreError: it is not known to be made; do it again.

        Cancellation: it may be made.
        """
        created = await self._created(thread_id, user_id, title)
        return created if isinstance(created, Fault) else (created[0].row, created[1])

    async def rename(self, thread_id: str, user_id: str, title: str) -> ThreadRow | None:
        """Give it a title; `None` where the user has no such thread.

        Raises:
            StoreError: it is not known to be done; do it again.

        Cancellation: it may be done.
        """
        row = await self._store.rename(thread_id, user_id, title)
        if row is not None:
            self._notices.changed(row)
        return row

    async def settled(self, thread_id: str, user_id: str) -> None:
        """A run that has just said its last word is written down: wait for that, where it is one of this process.

        Cancellation: leaves nothing behind.
        """
        thread = self._known(thread_id, user_id)
        if isinstance(thread, Thread):
            async with thread.turn:
                return

    async def _created(self, thread_id: str, user_id: str, title: str | None) -> tuple[StoredThread, bool] | Fault:
        created = await self._store.create(thread_id, user_id, title)
        if created is None:
            return NOT_FOUND
        if isinstance(created, Full):
            return TOO_MANY
        if created[1]:
            self._notices.changed(created[0].row)
        return created

    async def refresh(self, thread: Thread) -> None:
        """What `thread` says may lie before what its log retains: go to where it begins.

        Raises:
            StoreError: the log could not be asked.
        """
        thread.folded_seq = max(thread.folded_seq, await self._log.open(thread.id))

    async def delete(self, thread_id: str, user_id: str) -> bool:
        """Stop its run, forget its events, then the thread itself. False where the user has no such thread.

        Raises:
            StoreError: it is not known to be deleted; do it again.

        Cancellation: it may be half done; doing it again does the rest.
        """
        thread = await self.find(thread_id, user_id)
        if isinstance(thread, Fault):
            return False
        await self._stop(thread)
        async with thread.turn:
            await self._log.forget(thread_id)
            deleted = await self._store.delete(thread_id, user_id)
            thread.deleted = True
            if self._threads.get(thread_id) is thread:
                del self._threads[thread_id]
        if deleted:
            self._notices.deleted(user_id, thread_id)
        return deleted

    async def _stop(self, thread: Thread) -> None:
        """A run that does not end in time loses its lease with the thread."""
        if thread.active is not None:
            thread.active.stop(Ending.CANCELLED)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.reap_seconds):
                    await thread.active.ended.wait()

    def _known(self, thread_id: str, user_id: str) -> Thread | Fault | None:
        thread = self._threads.get(thread_id)
        if thread is None or thread.deleted:
            return None
        if thread.owner != user_id:
            return NOT_FOUND
        self._threads.move_to_end(thread_id)
        return thread

    async def _take_up(self, stored: StoredThread) -> Thread | Fault:
        """Of two who looked it up at once the first one's stands."""
        row = stored.row
        begins = await self._log.open(row.thread_id)
        if known := self._known(row.thread_id, row.user_id):
            return known
        if not self._make_room():
            return Fault(ErrorCode.OVERLOADED, "too many threads are in use; try again in a few seconds")
        limits = self._limits
        thread = self._threads[row.thread_id] = Thread(
            row.thread_id,
            row.user_id,
            messages=trimmed(stored.messages, max_messages=limits.history_messages, max_bytes=limits.history_bytes),
            folded_seq=max(row.folded_seq, begins),
            tidied_seq=row.tidied_seq,
            run_ids=OrderedDict.fromkeys(stored.run_ids),
        )
        return thread

    def _make_room(self) -> bool:
        """Idle ones go above `idle_threads`; those in use are at most `threads`."""
        if len(self._threads) < self._limits.idle_threads:
            return True
        oldest = next((thread for thread in self._threads.values() if thread.idle), None)
        if oldest is not None:
            del self._threads[oldest.id]
        return len(self._threads) < self._limits.threads
