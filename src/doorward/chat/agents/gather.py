"""Fewer, longer deltas the longer an answer gets, so that a run stays within its number of events whatever a model writes.

Models send a word at a time, up to some hundred a second. The first words pass as they come, so that an answer begins at once;
after that what comes within the pace is put together. What is held back is let out by the next event, whatever it is.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from ag_ui.core import ToolCallArgsEvent

from doorward.chat.agents.halves import DELTAS, Halves

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ag_ui.core import BaseEvent

    from doorward.chat.agents.halves import Delta

PACES = ((128, 0.0), (512, 0.1), (1_024, 0.2))
"""Up to so many deltas, one in so many seconds."""
LAST_PACE = 0.5
MAX_CHARACTERS = 4_096


class Gatherer:
    """The deltas of one run. Pure."""

    def __init__(self) -> None:
        self._held: Delta | None = None
        self._given = 0
        self._at = float("-inf")

    def take(self, event: BaseEvent, now: float) -> list[BaseEvent]:
        """What goes on its way, now that this event came. `now` in monotonic seconds."""
        event.timestamp = None  # the envelope has the one that holds
        if not isinstance(event, DELTAS):
            return [*self.rest(), event]
        given = self._hold(event)
        if now - self._at >= self._pace:
            self._at = now
            given += self.rest()
        return given

    def rest(self) -> list[BaseEvent]:
        """What was held back."""
        held, self._held = self._held, None
        if held is None:
            return []
        self._given += 1
        return [held]

    def _hold(self, event: Delta) -> list[BaseEvent]:
        """Put it together with what is held, or let that out first."""
        held = self._held
        if held is not None and _part(held) == _part(event) and len(held.delta) + len(event.delta) <= MAX_CHARACTERS:
            held.delta += event.delta
            return []
        given = self.rest()
        self._held = event
        return given

    @property
    def _pace(self) -> float:
        return next((seconds for number, seconds in PACES if self._given < number), LAST_PACE)


async def gathered(events: AsyncGenerator[BaseEvent, None]) -> AsyncGenerator[BaseEvent, None]:
    """The same events with fewer deltas and whole characters, also up to where they fail.

    Cancellation: `events` is closed.
    """
    halves, gatherer, now = Halves(), Gatherer(), asyncio.get_running_loop().time
    async with aclosing(events):
        try:
            async for event in events:
                for whole in halves.join(event):
                    for given in gatherer.take(whole, now()):
                        yield given
        except Exception:
            for given in gatherer.rest():
                yield given
            raise
        for given in gatherer.rest():
            yield given


def _part(event: Delta) -> tuple[type, str]:
    return type(event), event.tool_call_id if isinstance(event, ToolCallArgsEvent) else event.message_id
