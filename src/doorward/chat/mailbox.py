"""Between an agent and the log: a bounded queue that can be stopped at once, without cancelling either side."""

from __future__ import annotations

import asyncio
from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ag_ui.core import BaseEvent


class Ending(StrEnum):
    """How a run ended. A metric label, so a closed set."""

    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"
    TIMEOUT = "timeout"
    TOO_LONG = "too_long"
    INTERRUPTED = "interrupted"


class Mailbox:
    """Holds at most `size` events. One writer, one reader."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._events: deque[BaseEvent] = deque()
        self._changed = asyncio.Event()
        self._ending: Ending | None = None
        self._stopped = False

    @property
    def ending(self) -> Ending | None:
        """Why the mailbox ended, `None` while it has not."""
        return self._ending

    async def put(self, event: BaseEvent) -> bool:
        """Wait for room; `False` if the mailbox has ended and takes no more.

        Cancellation: the event is in, or not.
        """
        while len(self._events) >= self._size and self._ending is None:
            await self._change()
        if self._ending is not None:
            return False
        self._events.append(event)
        self._changed.set()
        return True

    async def take(self) -> list[BaseEvent]:
        """All that waits, at least one event; nothing once the mailbox has ended and is empty.

        Cancellation: takes nothing.
        """
        while not self._events and self._ending is None:
            await self._change()
        taken = list(self._events)
        self._events.clear()
        self._changed.set()
        return taken

    def end(self, ending: Ending) -> None:
        """No more will come; what waits is still handed out. Does nothing where it has ended already."""
        self._ending = self._ending or ending
        self._changed.set()

    def stop(self, ending: Ending) -> None:
        """End at once: what waits is dropped. Outweighs `end`; of two stops the first holds."""
        if not self._stopped:
            self._stopped, self._ending = True, ending
            self._events.clear()
            self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
