"""The ordered events of each thread. A port, and the adapter that keeps them in memory.

`append` gives each event the next number of its thread, `read` and `follow` hand them out in that order. The order
belongs to an *epoch*: when a log can no longer vouch for its numbers it starts another epoch, and readers begin anew.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import msgspec

from doorward.chat.envelope import Envelope

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

PAGE = 256
"""Envelopes that `follow` hands out at once, at most."""


class OutOfWindow(Exception):
    """The log cannot go on from there: another epoch, no longer retained, or past the head."""


class EventLog(Protocol):
    """Append-only. Numbers grow by one in each thread; none is used twice in an epoch."""

    @property
    def epoch(self) -> str:
        """Names the numbering; another one means that earlier numbers say nothing."""
        ...

    async def append(self, thread_id: str, run_id: str, events: Sequence[bytes]) -> int:
        """Add the events (AG-UI JSON) in one step and return the number of the last one.

        Cancellation: all of them are in the log, or none.
        """
        ...

    async def read(self, thread_id: str, *, epoch: str, after_seq: int, limit: int) -> Sequence[Envelope]:
        """At most `limit` envelopes after `after_seq`, oldest first; empty at the head.

        Raises:
            OutOfWindow: what follows `after_seq` is not all there.
        """
        ...

    def follow(self, thread_id: str, *, epoch: str, after_seq: int) -> AsyncGenerator[Sequence[Envelope], None]:
        """Everything after `after_seq`, then what is appended, until the reader stops.

        Raises:
            OutOfWindow: at any time, for a reader that is slower than the log forgets.

        Cancellation: leaves nothing behind.
        """
        ...

    async def forget(self, thread_id: str) -> None:
        """Drop a thread that nobody follows."""
        ...


class _Lane:
    """The retained events of one thread. `head` is the last number given out."""

    __slots__ = ("entries", "grown", "head")

    def __init__(self, retained: int, head: int) -> None:
        self.entries: deque[Envelope] = deque(maxlen=retained)
        self.head = head
        self.grown = asyncio.Event()


class MemoryEventLog:
    """Keeps the last `retained` events of each thread; a new process is a new epoch.

    Args:
        retained: events a thread, > 0.
        wall: wall-clock seconds.
    """

    def __init__(self, *, retained: int, wall: Callable[[], float]) -> None:
        self._retained = retained
        self._wall = wall
        self._epoch = secrets.token_hex(8)
        self._lanes: dict[str, _Lane] = {}
        self._base = 0
        """Where a new thread starts: past every number of a forgotten one, so that an old position is not taken for a new one."""

    @property
    def epoch(self) -> str:
        return self._epoch

    async def append(self, thread_id: str, run_id: str, events: Sequence[bytes]) -> int:
        lane = self._lane(thread_id)
        ts = int(self._wall() * 1000)
        for event in events:
            lane.head += 1
            lane.entries.append(
                Envelope(
                    thread_id=thread_id,
                    epoch=self._epoch,
                    seq_from=lane.head,
                    seq=lane.head,
                    run_id=run_id,
                    ts=ts,
                    event=msgspec.Raw(event),
                )
            )
        grown, lane.grown = lane.grown, asyncio.Event()
        grown.set()
        return lane.head

    async def read(self, thread_id: str, *, epoch: str, after_seq: int, limit: int) -> Sequence[Envelope]:
        lane = self._lanes.get(thread_id) or _Lane(self._retained, self._base)
        first = lane.head - len(lane.entries) + 1
        if epoch != self._epoch or not first - 1 <= after_seq <= lane.head:
            raise OutOfWindow(thread_id)
        start = after_seq - first + 1
        return list(islice(lane.entries, start, start + limit))

    async def follow(self, thread_id: str, *, epoch: str, after_seq: int) -> AsyncGenerator[Sequence[Envelope], None]:
        lane = self._lane(thread_id)
        while True:
            grown = lane.grown
            page = await self.read(thread_id, epoch=epoch, after_seq=after_seq, limit=PAGE)
            if page:
                yield page
                after_seq = page[-1].seq
            else:
                await grown.wait()

    async def forget(self, thread_id: str) -> None:
        if lane := self._lanes.pop(thread_id, None):
            self._base = max(self._base, lane.head + 1)

    def _lane(self, thread_id: str) -> _Lane:
        if (lane := self._lanes.get(thread_id)) is None:
            lane = self._lanes[thread_id] = _Lane(self._retained, self._base)
        return lane
