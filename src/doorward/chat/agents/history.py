"""What was said before, as an agent can take it: only what is whole. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ag_ui.core import AssistantMessage, ReasoningMessage, ToolMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from doorward.chat.transcript import Message


def usable(messages: Sequence[Message]) -> list[Message]:
    """The messages without what a model would refuse.

    A run that was stopped may have left a tool call without its result: providers answer 400 to that. Such calls go, and so do
    results without a call, answers that say nothing, and thoughts, which belong to the run that had them.
    """
    answered = {message.tool_call_id for message in messages if isinstance(message, ToolMessage)}
    kept: list[Message] = []
    called: set[str] = set()
    for message in messages:
        match message:
            case ReasoningMessage():
                continue
            case ToolMessage() if message.tool_call_id not in called:
                continue
            case AssistantMessage():
                calls = [call for call in message.tool_calls or [] if call.id in answered]
                called |= {call.id for call in calls}
                if calls or message.content:
                    kept.append(message.model_copy(update={"tool_calls": calls or None}))
            case _:
                kept.append(message)
    return kept
