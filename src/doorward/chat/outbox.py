"""What waits to be sent on one socket: bounded, and merged where the reader is slow."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from doorward.chat.envelope import Envelope, merged
from doorward.errors import LimitError

if TYPE_CHECKING:
    from collections.abc import Callable

    from doorward.chat.limits import ChatLimits
    from doorward.chat.unsent import UnsentBudget

OVERHEAD_BYTES: Final = 768
"""What an envelope weighs besides its JSON, roughly: the object, its names and numbers, its place in the queue."""


class Slow(StrEnum):
    """Why a reader is too slow. A metric label, so a closed set."""

    STALLED = "stalled"
    """It took nothing for `stall_seconds`."""
    BUDGET = "budget"
    """The queues of all sockets hold more than they may, and its own is the fattest."""


class SlowReader(LimitError):
    """The peer does not read as fast as it must. It may come back and resume."""

    def __init__(self, why: Slow) -> None:
        super().__init__(f"the peer does not read: {why}")
        self.why = why


class _Cell:
    """One thing that waits. `ts`: since when an event that happens now has waited, in wall-clock milliseconds."""

    __slots__ = ("bytes", "item", "ts")

    def __init__(self, item: Envelope | bytes, ts: int | None) -> None:
        self.item = item
        self.bytes = _weight(item)
        self.ts = ts


class Outbox:
    """First in, first out. Above `merge_above_messages` text deltas of one message become one; a full one has no room.

    Args:
        budget: of all sockets together.
        delivered: told of each event that happened while it was followed, once it is sent: its `ts`.
        evicted: told why, when the budget wants this queue's memory back. Never waits.
    """

    # Most queues are empty most of the time: a list has 56 bytes then, a deque 760, and an Event holds a deque.
    __slots__ = (
        "_budget", "_cells", "_delivered", "_filled", "_limits", "_open", "_posted", "_room", "_sending", "_tails",
        "_tell_evicted", "bytes",
    )  # fmt: skip

    def __init__(
        self,
        limits: ChatLimits,
        budget: UnsentBudget,
        *,
        delivered: Callable[[int], None],
        evicted: Callable[[Slow], None],
    ) -> None:
        self._limits = limits
        self._budget = budget
        self._delivered = delivered
        self._tell_evicted = evicted
        self._cells: list[_Cell] = []
        self._tails: dict[str, _Cell] = {}
        self._posted: dict[str, _Cell] = {}
        self._sending: _Cell | None = None
        self._filled: asyncio.Future[None] | None = None
        """While `take` waits."""
        self._room: asyncio.Event | None = None
        """While somebody waits for room."""
        self._open = True
        self.bytes = 0
        budget.join(self)

    def __len__(self) -> int:
        return len(self._cells)

    async def put(self, text: bytes) -> None:
        """Add a text that is ready to be sent, when there is room.

        Raises:
            SlowReader: as `room`.

        Cancellation: the text is in, or not.
        """
        await self.room()
        self._tails.clear()
        self._add(_Cell(text, None))

    def push(self, envelope: Envelope, *, live: bool) -> None:
        """Add an envelope whether there is room or not: wait for it with `room` before the next ones are fetched.

        Args:
            live: it happened while it was followed; else it is a replay.
        """
        if len(self._cells) >= self._limits.merge_above_messages and self._merge(envelope):
            return
        cell = _Cell(envelope, envelope.ts if live else None)
        self._tails[envelope.thread_id] = cell
        self._add(cell)

    async def room(self) -> None:
        """Wait until there is room.

        Raises:
            SlowReader: there was none within `stall_seconds`, or the queue was evicted.

        Cancellation: changes nothing.
        """
        if self._full:
            try:
                async with asyncio.timeout(self._limits.stall_seconds):
                    while self._full:
                        self._room = self._room or asyncio.Event()
                        await self._room.wait()
            except TimeoutError as error:
                raise SlowReader(Slow.STALLED) from error
        if not self._open:
            raise SlowReader(Slow.BUDGET)

    async def take(self) -> bytes:
        """The next text to send; what was posted goes first. What was taken before counts as sent from now on.

        For one task only. Cancellation: takes nothing.
        """
        self._sent()
        while not self._cells and not self._posted:
            self._filled = asyncio.get_running_loop().create_future()
            await self._filled
        if self._posted:
            self._sending = self._posted.pop(next(iter(self._posted)))
        else:
            self._sending = self._cells.pop(0)
            self._tell_of_room()
        item = self._sending.item
        if isinstance(item, bytes):
            return item
        if self._tails.get(item.thread_id) is self._sending:
            del self._tails[item.thread_id]
        return item.encoded

    def post(self, subject: str, text: bytes) -> None:
        """Send `text` outside the order, instead of what waits to be sent about the same subject.

        At most `queue_messages` subjects wait; of more, the one that waits longest is not told of. Never waits itself.
        """
        replaced = self._posted.pop(subject, None)
        if replaced is None and len(self._posted) >= self._limits.queue_messages:
            replaced = self._posted.pop(next(iter(self._posted)))
        if replaced is not None:
            self._change(-replaced.bytes)
        if self._open:
            cell = self._posted[subject] = _Cell(text, None)
            self._tell_taker()
            self._change(cell.bytes)

    def discard(self, thread_id: str) -> None:
        """Drop the envelopes of a thread that is no longer followed."""
        kept = [cell for cell in self._cells if isinstance(cell.item, bytes) or cell.item.thread_id != thread_id]
        self._change(sum(cell.bytes for cell in kept) - sum(cell.bytes for cell in self._cells))
        self._cells = kept
        self._tails.pop(thread_id, None)
        self._tell_of_room()

    def close(self) -> None:
        """Drop everything; nothing more is added. Twice is once."""
        self._open = False
        self._cells.clear()
        self._tails.clear()
        self._posted.clear()
        self._sending = None
        self._budget.leave(self)
        self._change(-self.bytes)
        self._tell_of_room()

    def evict(self) -> None:
        """The budget wants this memory back."""
        self.close()
        self._tell_evicted(Slow.BUDGET)

    @property
    def _full(self) -> bool:
        return len(self._cells) >= self._limits.queue_messages or self.bytes >= self._limits.queue_bytes

    def _add(self, cell: _Cell) -> None:
        if self._open:
            self._cells.append(cell)
            self._tell_taker()
            self._change(cell.bytes)

    def _merge(self, envelope: Envelope) -> bool:
        tail = self._tails.get(envelope.thread_id)
        if tail is None or isinstance(tail.item, bytes):
            return False
        joined = merged(tail.item, envelope, max_bytes=self._limits.merged_bytes)
        if joined is None:
            return False
        before, tail.item, tail.bytes = tail.bytes, joined, _weight(joined)
        self._change(tail.bytes - before)
        return True

    def _sent(self) -> None:
        sent, self._sending = self._sending, None
        if sent is not None:
            self._change(-sent.bytes)
            self._tell_of_room()
            if sent.ts is not None:
                self._delivered(sent.ts)

    def _tell_taker(self) -> None:
        if self._filled is not None and not self._filled.done():
            self._filled.set_result(None)

    def _tell_of_room(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.set()

    def _change(self, by: int) -> None:
        """May evict this very queue."""
        self.bytes += by
        self._budget.change(by)


def _weight(item: Envelope | bytes) -> int:
    """What it holds in memory, at most: an envelope's event is in its encoded form too."""
    return OVERHEAD_BYTES + (len(item) if isinstance(item, bytes) else 2 * len(item.event))
