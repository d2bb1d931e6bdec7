"""How late the clients' own loop is. Whatever they measure includes it, so it is told beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

LOOK_SECONDS = 0.02
LEAST_SECONDS = 0.005
"""Below this nobody is late."""


class Lag:
    """What was late, and when. Loop seconds."""

    def __init__(self) -> None:
        self._late: list[tuple[float, float]] = []

    def add(self, at: float, seconds: float) -> None:
        if seconds >= LEAST_SECONDS:
            self._late.append((at, seconds))

    def most_since(self, at: float) -> float:
        """The largest lag from then on."""
        return max((seconds for when, seconds in self._late if when >= at), default=0.0)


@asynccontextmanager
async def watched() -> AsyncIterator[Lag]:
    """Look at this loop while inside."""
    lag = Lag()
    watching = asyncio.create_task(_watch(lag))
    try:
        await asyncio.sleep(0)  # from now on, not from the next turn of the loop
        yield lag
    finally:
        watching.cancel()
        await asyncio.wait({watching})


async def _watch(lag: Lag) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LOOK_SECONDS
        await asyncio.sleep(LOOK_SECONDS)
        lag.add(loop.time(), loop.time() - due)
