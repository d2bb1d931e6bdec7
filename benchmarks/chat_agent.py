"""An agent for benchmarks of the chat (`chat.agent = benchmarks.chat_agent:AGENT`): it says what time it is.

The question is `pieces=300 pace=0.02 size=40`: so many deltas, so many seconds between two, and so many characters each. A delta
begins with the nanoseconds of the monotonic clock, which all processes of a host share, so a reader knows how old it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from ag_ui.core import BaseEvent, TextMessageContentEvent, TextMessageEndEvent, TextMessageStartEvent

from doorward.chat.agents.port import RunRequest


class Clock:
    """The agent. It keeps its pace on the whole: what comes late does not make the rest late."""

    async def run(self, request: RunRequest) -> AsyncIterator[BaseEvent]:
        orders = dict(order.split("=", 1) for order in request.message.split())
        pace, size = float(orders["pace"]), int(orders["size"])
        name = f"{request.run_id}:answer"
        yield TextMessageStartEvent(message_id=name, role="assistant")
        began = time.monotonic()
        for number in range(int(orders["pieces"])):
            await asyncio.sleep(max(began + number * pace - time.monotonic(), 0))
            yield TextMessageContentEvent(message_id=name, delta=f"{time.monotonic_ns()} ".ljust(size, "."))
        yield TextMessageEndEvent(message_id=name)


AGENT = Clock()
