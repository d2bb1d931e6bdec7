"""An agent of your own without any framework: an object whose `run` gives AG-UI events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from ag_ui.core import BaseEvent, TextMessageContentEvent, TextMessageEndEvent, TextMessageStartEvent

from doorward.chat.agents import AgentError, AgentFault, RunRequest


class Parrot:
    async def run(self, request: RunRequest) -> AsyncIterator[BaseEvent]:
        if not request.message.strip():
            raise AgentError(AgentFault.DECLINED, "an empty question")
        message_id = f"{request.run_id}:answer"
        yield TextMessageStartEvent(message_id=message_id, role="assistant")
        for word in f"{request.who.principal.user_id} says: {request.message}".split():
            yield TextMessageContentEvent(message_id=message_id, delta=f"{word} ")
            await asyncio.sleep(0.02)  # a cancelled run ends at any await
        yield TextMessageEndEvent(message_id=message_id)


agent = Parrot()
