"""The control: a server that lets everybody in and asks nobody, under the same load. What it takes is not the door's doing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from doorward.drill.clients import Dialer
from doorward.drill.results import Kind, Outcome, Phase

MIN_CROWD = 10
ARRIVAL_SECONDS = 1.0


class Control:
    """Opens handshakes at the null server and keeps the slowest answer.

    Args:
        url: of the null server; `None`: it could not be had, and nothing is allowed for.
        give_up_seconds: a null server that takes longer is of no use.
    """

    def __init__(self, url: str | None, *, began: float, give_up_seconds: float, addresses: Sequence[str] = ()) -> None:
        self.slowest_seconds = 0.0
        self.unanswered = 0
        self._dialer = None
        if url is not None:
            self._dialer = Dialer(url, began=began, give_up_seconds=give_up_seconds, addresses=addresses)

    async def ask(self) -> None:
        """One handshake.

        Cancellation: the connection is cut.
        """
        if self._dialer is None:
            return
        sample = await self._dialer.ask(Phase.HEALTHY, Kind.JWT, "x")
        if sample.outcome is Outcome.ALLOW:
            self.slowest_seconds = max(self.slowest_seconds, sample.seconds)
        else:
            self.unanswered += 1

    async def crowd(self, number: int) -> None:
        """So many at once."""
        await asyncio.gather(*(self.ask() for _ in range(max(number, MIN_CROWD))))

    async def arrivals(self, per_second: float) -> None:
        """So many a second, for a second."""
        async with asyncio.TaskGroup() as group:
            for _ in range(round(per_second * ARRIVAL_SECONDS)):
                group.create_task(self.ask())
                await asyncio.sleep(1 / per_second)
