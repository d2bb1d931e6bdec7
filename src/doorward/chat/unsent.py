"""What waits to be sent on all sockets of a process together: bounded, and the fattest queue goes first."""

from __future__ import annotations

from typing import Protocol


class Queue(Protocol):
    """What waits for one socket."""

    bytes: int

    def evict(self) -> None:
        """Drop everything and end the socket. Leaves the budget."""
        ...


class UnsentBudget:
    """Counts each thing once for every queue that it is in, as if none were shared: memory holds at most that.

    Args:
        limit_bytes: past it the queue with the most is evicted, then the next one, until the rest fits.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.bytes = 0
        self._queues: set[Queue] = set()

    def __len__(self) -> int:
        return len(self._queues)

    def join(self, queue: Queue) -> None:
        self._queues.add(queue)

    def leave(self, queue: Queue) -> None:
        """It is empty. Twice is once."""
        self._queues.discard(queue)

    def change(self, by: int) -> None:
        """A queue has grown or shrunk."""
        self.bytes += by
        while self.bytes > self.limit_bytes and self._queues:
            max(self._queues, key=lambda queue: queue.bytes).evict()
