"""The event log in memory: for tests, and for whoever can bear to lose it. A new process is a new epoch."""

from __future__ import annotations

import asyncio
import secrets
from bisect import bisect_right
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from doorward.chat.envelope import Envelope, compacted
from doorward.chat.eventlog import COMPACTED_BYTES, PAGE, Lease, LeaseLost, OutOfWindow, Retention, begun, first_page

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence


class _Lane:
    """The retained events of one thread. `head` is the last number given out."""

    __slots__ = ("entries", "fence", "grown", "head")

    def __init__(self, head: int) -> None:
        self.entries: list[Envelope] = []
        self.fence = 0
        self.head = head
        self.grown = asyncio.Event()


class MemoryEventLog:
    """An `EventLog` that ends with the process.

    Args:
        wall: wall-clock seconds.
    """

    def __init__(self, *, wall: Callable[[], float], retention: Retention | None = None) -> None:
        self._retention = retention or Retention()
        self._wall = wall
        self._epoch = secrets.token_hex(8)
        self._lanes: dict[str, _Lane] = {}
        self._fence = 0
        self._base = 0
        """Where a new thread starts: past every number of a forgotten one, so that an old position is not taken for a new one."""

    @property
    def epoch(self) -> str:
        return self._epoch

    async def open(self, thread_id: str) -> int:
        lane = self._lane(thread_id)
        return lane.entries[0].seq_from - 1 if lane.entries else lane.head

    async def acquire(self, thread_id: str, run_id: str) -> Lease:
        self._fence += 1
        self._lane(thread_id).fence = self._fence
        return Lease(thread_id, run_id, self._fence)

    async def append(self, lease: Lease, events: Sequence[bytes]) -> int:
        lane = self._lanes.get(lease.thread_id)
        if lane is None or lane.fence != lease.fence:
            raise LeaseLost(lease.thread_id)
        ts = int(self._wall() * 1000)
        for event in events:
            lane.head += 1
            lane.entries.append(
                Envelope(
                    thread_id=lease.thread_id,
                    epoch=self._epoch,
                    seq_from=lane.head,
                    seq=lane.head,
                    run_id=lease.run_id,
                    ts=ts,
                    event=msgspec.Raw(event),
                )
            )
        grown, lane.grown = lane.grown, asyncio.Event()
        grown.set()
        return lane.head

    async def read(self, thread_id: str, *, epoch: str, after_seq: int, limit: int) -> Sequence[Envelope]:
        lane = self._lanes.get(thread_id) or _Lane(self._base)
        start = bisect_right(lane.entries, after_seq, key=lambda entry: entry.seq)
        page = first_page(islice(lane.entries, start, start + limit))
        expected = page[0].seq_from - 1 if page else lane.head
        if epoch != self._epoch or after_seq != expected:
            raise OutOfWindow(thread_id)
        return page

    async def follow(self, thread_id: str, *, epoch: str, after_seq: int) -> AsyncGenerator[Sequence[Envelope], None]:
        while True:
            grown = self._lane(thread_id).grown
            page = await self.read(thread_id, epoch=epoch, after_seq=after_seq, limit=PAGE)
            if page:
                yield page
                after_seq = page[-1].seq
            else:
                await grown.wait()

    async def run_at(self, thread_id: str, *, epoch: str, after_seq: int) -> Sequence[Envelope]:
        following = await self.read(thread_id, epoch=epoch, after_seq=after_seq, limit=1)
        entries = self._lane(thread_id).entries
        return begun(reversed(entries[: bisect_right(entries, after_seq, key=lambda entry: entry.seq)]), following)

    async def tidy(self, thread_id: str, *, up_to: int) -> None:
        if (lane := self._lanes.get(thread_id)) is None:
            return
        split = bisect_right(lane.entries, up_to, key=lambda entry: entry.seq)
        later = lane.entries[split:]
        kept = retained(
            compacted(lane.entries[:split], max_bytes=COMPACTED_BYTES), len(later), self._retention, now=self._wall()
        )
        lane.entries = [*kept, *later]

    async def forget(self, thread_id: str) -> None:
        if lane := self._lanes.pop(thread_id, None):
            self._base = max(self._base, lane.head + 1)
            lane.grown.set()

    def _lane(self, thread_id: str) -> _Lane:
        if (lane := self._lanes.get(thread_id)) is None:
            lane = self._lanes[thread_id] = _Lane(self._base)
        return lane


def retained(envelopes: Sequence[Envelope], later: int, retention: Retention, *, now: float) -> Sequence[Envelope]:
    """The newest of `envelopes` that may be kept, where `later` more follow them. Pure."""
    cutoff = int((now - retention.seconds) * 1000)
    young = next((index for index, envelope in enumerate(envelopes) if envelope.ts >= cutoff), len(envelopes))
    return envelopes[max(young, len(envelopes) + later - retention.events, 0) :]
