"""An agent for `benchmarks.page`: it speaks at once, and says the rest when a file with the question's name is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from ag_ui.core import BaseEvent, TextMessageContentEvent, TextMessageEndEvent, TextMessageStartEvent

from doorward.chat.agents.port import RunRequest

WORDS = 200
POLL_SECONDS = 0.005


class SpeakingAgent:
    """Its first words, a wait for the file, `WORDS` more, each an event of its own."""

    async def run(self, request: RunRequest) -> AsyncIterator[BaseEvent]:
        """Cancellation: leaves nothing behind."""
        name = f"{request.run_id}:answer"
        yield TextMessageStartEvent(message_id=name, role="assistant")
        yield TextMessageContentEvent(message_id=name, delta="The first words. ")
        while not Path(request.message).exists():  # noqa: ASYNC110, ASYNC240 - another process makes it; nobody else is served
            await asyncio.sleep(POLL_SECONDS)
        for number in range(WORDS):
            yield TextMessageContentEvent(message_id=name, delta=f"word {number}, ")
        yield TextMessageEndEvent(message_id=name)


agent = SpeakingAgent()
