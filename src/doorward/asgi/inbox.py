"""A queue as light as a connection on which mostly nothing happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio

E = TypeVar("E")


class Inbox(Generic[E]):
    """Events in order, for whoever takes them. An empty one with nobody waiting holds two empty lists."""

    __slots__ = ("_events", "_loop", "_taken", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._events: list[E | None] = []
        self._taken = 0
        """How many of them were taken: the list begins anew when that is all, since taking one from its front moves the others."""
        self._waiting: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self._events) - self._taken

    def put(self, event: E) -> bool:
        """Never waits. Says whether somebody was waiting for it."""
        self._events.append(event)
        return self._wake()

    async def take(self) -> E:
        """The next event, when there is one.

        Cancellation: no event is lost; who waits behind gets it.
        """
        while not self._events:
            waiting = self._loop.create_future()
            self._waiting.append(waiting)
            try:
                await waiting
            except BaseException:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)
                elif self._events:
                    self._wake()
                raise
        event: E = self._events[self._taken]  # type: ignore[assignment]  # `None` only where it was taken
        self._events[self._taken] = None
        self._taken += 1
        if self._taken == len(self._events):
            self._events.clear()
            self._taken = 0
        return event

    def _wake(self) -> bool:
        while self._waiting:
            waiting = self._waiting.pop(0)
            if not waiting.done():
                waiting.set_result(None)
                return True
        return False
