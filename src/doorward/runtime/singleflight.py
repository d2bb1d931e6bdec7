"""One question at a time for each key, shared by everyone who wants the answer.

Nobody owns the flight: it is a detached task with a deadline of its own and an empty context. Callers only wait for it, so a caller
that goes away fails nobody else.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Flights never raise: the coroutine turns every outcome into a value."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, asyncio.Task[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def get(self, key: Hashable) -> asyncio.Task[T] | None:
        return self._flights.get(key)

    def start(self, key: Hashable, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin the flight for `key`; there must be none."""
        task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self._flights[key] = task
        task.add_done_callback(lambda _: self._flights.pop(key, None))
        return task

    async def aclose(self, *, seconds: float) -> None:
        """Cancel what is in flight, with a bound."""
        tasks = set(self._flights.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)


async def landed(flight: asyncio.Task[T], seconds: float) -> bool:
    """Wait for the flight at most `seconds`. The flight itself is not touched, whatever happens to the waiter."""
    if flight.done():
        return True
    done, _ = await asyncio.wait({flight}, timeout=max(seconds, 0.0))
    return bool(done)
