"""What waits to be sent on one socket: bounded, and merged where the reader is slow."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from doorward.chat.envelope import Envelope, merged
from doorward.errors import LimitError

if TYPE_CHECKING:
    from doorward.chat.limits import ChatLimits

OVERHEAD_BYTES = 256
"""What an envelope weighs besides its event, roughly."""


class SlowReader(LimitError):
    """The peer took nothing for too long. It may come back and resume."""


class _Cell:
    __slots__ = ("item", "size")

    def __init__(self, item: Envelope | str) -> None:
        self.item = item
        self.size = _size(item)


class Outbox:
    """First in, first out. Above `merge_above_messages` text deltas of one message become one; a full one waits for room."""

    def __init__(self, limits: ChatLimits) -> None:
        self._limits = limits
        self._cells: deque[_Cell] = deque()
        self._tails: dict[str, _Cell] = {}
        self._bytes = 0
        self._posted: dict[str, str] = {}
        self._filled = asyncio.Event()
        self._room = asyncio.Event()

    def __len__(self) -> int:
        return len(self._cells)

    async def put(self, item: Envelope | str) -> None:
        """Add an envelope, or a text that is ready to be sent.

        Raises:
            SlowReader: there was no room within `stall_seconds`.

        Cancellation: the item is in, or not.
        """
        if len(self._cells) >= self._limits.merge_above_messages and self._merge(item):
            return
        if self._full:
            await self._wait_for_room()
        self._push(item)

    async def take(self) -> str:
        """The next text to send; what was posted goes first.

        Cancellation: takes nothing.
        """
        while not self._cells and not self._posted:
            self._filled.clear()
            await self._filled.wait()
        if self._posted:
            return self._posted.pop(next(iter(self._posted)))
        cell = self._cells.popleft()
        self._bytes -= cell.size
        self._room.set()
        if isinstance(cell.item, str):
            return cell.item
        if self._tails.get(cell.item.thread_id) is cell:
            del self._tails[cell.item.thread_id]
        return cell.item.text

    def post(self, subject: str, text: str) -> None:
        """Send `text` outside the order, instead of what waits to be sent about the same subject.

        At most `queue_messages` subjects wait; of more, the one that waits longest is not told of. Never waits itself.
        """
        self._posted.pop(subject, None)
        if len(self._posted) >= self._limits.queue_messages:
            del self._posted[next(iter(self._posted))]
        self._posted[subject] = text
        self._filled.set()

    def discard(self, thread_id: str) -> None:
        """Drop the envelopes of a thread that is no longer followed."""
        kept = [cell for cell in self._cells if isinstance(cell.item, str) or cell.item.thread_id != thread_id]
        self._cells = deque(kept)
        self._bytes = sum(cell.size for cell in kept)
        self._tails.pop(thread_id, None)
        self._room.set()

    @property
    def _full(self) -> bool:
        return len(self._cells) >= self._limits.queue_messages or self._bytes >= self._limits.queue_bytes

    async def _wait_for_room(self) -> None:
        try:
            async with asyncio.timeout(self._limits.stall_seconds):
                while self._full:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError as error:
            raise SlowReader("the peer does not read") from error

    def _push(self, item: Envelope | str) -> None:
        cell = _Cell(item)
        self._cells.append(cell)
        self._bytes += cell.size
        if isinstance(item, str):
            self._tails.clear()
        else:
            self._tails[item.thread_id] = cell
        self._filled.set()

    def _merge(self, item: Envelope | str) -> bool:
        if isinstance(item, str) or (tail := self._tails.get(item.thread_id)) is None:
            return False
        if isinstance(tail.item, str):
            return False
        joined = merged(tail.item, item, max_bytes=self._limits.merged_bytes)
        if joined is None:
            return False
        self._bytes -= tail.size
        tail.item, tail.size = joined, _size(joined)
        self._bytes += tail.size
        return True


def _size(item: Envelope | str) -> int:
    return len(item) if isinstance(item, str) else len(item.event) + OVERHEAD_BYTES
