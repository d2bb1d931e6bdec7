"""Threads (conversations): each belongs to one user, and to nobody else it exists."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from doorward.chat.commands import ErrorCode, Fault
from doorward.chat.transcript import trimmed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from doorward.chat.eventlog import EventLog
    from doorward.chat.limits import ChatLimits
    from doorward.chat.runs import Run
    from doorward.chat.transcript import Message

NOT_FOUND = Fault(ErrorCode.NOT_FOUND, "there is no such thread")


@dataclass(slots=True, eq=False)
class Thread:
    """One conversation. `messages` say what the events up to `folded_seq` said."""

    id: str
    owner: str
    messages: list[Message] = field(default_factory=list)
    folded_seq: int = 0
    active: Run | None = None
    run_ids: OrderedDict[str, None] = field(default_factory=OrderedDict)
    followers: int = 0

    @property
    def idle(self) -> bool:
        """Nobody would miss it at this moment: no run, and no socket that follows it."""
        return self.active is None and self.followers == 0

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
    """The threads of this process, least recently used first. Makes room by forgetting the oldest idle one."""

    def __init__(self, log: EventLog, limits: ChatLimits) -> None:
        self._log = log
        self._limits = limits
        self._threads: OrderedDict[str, Thread] = OrderedDict()
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._threads)

    def find(self, thread_id: str, user_id: str) -> Thread | Fault:
        """The user's own thread."""
        thread = self._threads.get(thread_id)
        if thread is None or thread.owner != user_id:
            return NOT_FOUND
        self._threads.move_to_end(thread_id)
        return thread

    async def open(self, thread_id: str, user_id: str) -> Thread | Fault:
        """The user's own thread, made if the name is free.

        Cancellation: an idle thread may have been forgotten for nothing.
        """
        if thread_id in self._threads:
            return self.find(thread_id, user_id)
        if not await self._make_room(user_id):
            return Fault(ErrorCode.TOO_MANY_THREADS, "too many threads are in use; close one and try again")
        if thread_id in self._threads:
            return self.find(thread_id, user_id)
        thread = self._threads[thread_id] = Thread(thread_id, user_id)
        self._counts[user_id] = self._counts.get(user_id, 0) + 1
        return thread

    async def _make_room(self, user_id: str) -> bool:
        if self._counts.get(user_id, 0) >= self._limits.threads_per_user:
            return await self._forget_oldest(user_id)
        if len(self._threads) >= self._limits.threads:
            return await self._forget_oldest(None)
        return True

    async def _forget_oldest(self, user_id: str | None) -> bool:
        candidates = (thread for thread in self._threads.values() if user_id in {None, thread.owner} and thread.idle)
        oldest = next(candidates, None)
        if oldest is None:
            return False
        del self._threads[oldest.id]
        self._counts[oldest.owner] -= 1
        if not self._counts[oldest.owner]:
            del self._counts[oldest.owner]
        await self._log.forget(oldest.id)
        return True
