"""An agent for `doorward serve` (`chat.agent = tests.chat_scripted:AGENT`) that does what the question says.

It thinks, uses two tools, and says the question again, word by word. Orders may stand before the question, up to a bar:
`pace=0.002 hold=17 | and now the words`.

    pace    seconds between two events
    hold    so many events, and then nothing for ever
    blocks  so many pieces instead of the words
    size    characters of each
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

from ag_ui.core import (
    BaseEvent,
    ReasoningEndEvent,
    ReasoningMessageContentEvent,
    ReasoningMessageEndEvent,
    ReasoningMessageStartEvent,
    ReasoningStartEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallResultEvent,
    ToolCallStartEvent,
)

from doorward.chat.agents.port import RunRequest

BAR = " | "


class Scripted:
    """The agent."""

    async def run(self, request: RunRequest) -> AsyncIterator[BaseEvent]:
        orders, words = read(request.message)
        script = blocks(request, orders) if "blocks" in orders else whole(replace(request, message=words))
        pace, left = float(orders.get("pace", 0)), int(orders.get("hold", -1))
        async for event in script:
            if left == 0:
                await asyncio.Event().wait()
            left -= 1
            yield event
            if pace:
                await asyncio.sleep(pace)


AGENT = Scripted()


def read(question: str) -> tuple[Mapping[str, str], str]:
    """The orders, and the words that are left."""
    before, bar, words = question.partition(BAR)
    return (dict(order.split("=", 1) for order in before.split()), words) if bar else ({}, question)


async def whole(request: RunRequest) -> AsyncIterator[BaseEvent]:
    """A thought, two tools, and the question again."""
    thought = f"{request.run_id}:thought"
    yield ReasoningStartEvent(message_id=thought)
    yield ReasoningMessageStartEvent(message_id=thought)
    for word in ("What ", "was ", "said?"):
        yield ReasoningMessageContentEvent(message_id=thought, delta=word)
    yield ReasoningMessageEndEvent(message_id=thought)
    yield ReasoningEndEvent(message_id=thought)
    for tool in ("listen", "remember"):
        call = f"{request.run_id}:{tool}"
        yield ToolCallStartEvent(tool_call_id=call, tool_call_name=tool)
        for piece in ('{"to":', '"you"}'):
            yield ToolCallArgsEvent(tool_call_id=call, delta=piece)
        yield ToolCallEndEvent(tool_call_id=call)
        yield ToolCallResultEvent(message_id=f"{call}:result", tool_call_id=call, content="{}", role="tool")
    async for event in answer(request, [f"{word} " for word in request.message.split()]):
        yield event


async def blocks(request: RunRequest, orders: Mapping[str, str]) -> AsyncIterator[BaseEvent]:
    """Much text, and nothing else."""
    async for event in answer(request, ["x" * int(orders["size"])] * int(orders["blocks"])):
        yield event


async def answer(request: RunRequest, pieces: list[str]) -> AsyncIterator[BaseEvent]:
    name = f"{request.run_id}:answer"
    yield TextMessageStartEvent(message_id=name, role="assistant")
    for piece in pieces:
        yield TextMessageContentEvent(message_id=name, delta=piece)
    yield TextMessageEndEvent(message_id=name)
