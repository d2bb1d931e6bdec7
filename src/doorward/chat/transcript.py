"""From events to messages: what a thread says so far, for snapshots and for the agent's memory. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ag_ui.core import (
    AssistantMessage,
    FunctionCall,
    ReasoningMessage,
    ReasoningMessageContentEvent,
    ReasoningMessageStartEvent,
    TextMessageContentEvent,
    TextMessageStartEvent,
    ToolCall,
    ToolCallArgsEvent,
    ToolCallResultEvent,
    ToolCallStartEvent,
    ToolMessage,
    UserMessage,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ag_ui.core import BaseEvent

Message = UserMessage | AssistantMessage | ToolMessage | ReasoningMessage


class Transcript:
    """Folds the events of one run into messages, in the order in which they began."""

    def __init__(self, question: UserMessage) -> None:
        self.question = question
        self._messages: dict[str, Message] = {question.id: question}
        self._calls: dict[str, ToolCall] = {}

    @property
    def messages(self) -> list[Message]:
        return list(self._messages.values())

    def add(self, event: BaseEvent) -> None:
        """Take one event; those that say nothing lasting are passed over."""
        match event:
            case TextMessageStartEvent():
                self._answer(event.message_id)
            case TextMessageContentEvent():
                answer = self._answer(event.message_id)
                answer.content = (answer.content or "") + event.delta
            case ReasoningMessageStartEvent():
                self._thought(event.message_id)
            case ReasoningMessageContentEvent():
                self._thought(event.message_id).content += event.delta
            case ToolCallStartEvent():
                self._call(event)
            case ToolCallArgsEvent() if event.tool_call_id in self._calls:
                self._calls[event.tool_call_id].function.arguments += event.delta
            case ToolCallResultEvent():
                self._messages[event.message_id] = ToolMessage(
                    id=event.message_id, content=event.content, tool_call_id=event.tool_call_id
                )
            case _:
                pass

    def _answer(self, message_id: str) -> AssistantMessage:
        known = self._messages.get(message_id)
        if isinstance(known, AssistantMessage):
            return known
        answer = self._messages[message_id] = AssistantMessage(id=message_id)
        return answer

    def _thought(self, message_id: str) -> ReasoningMessage:
        known = self._messages.get(message_id)
        if isinstance(known, ReasoningMessage):
            return known
        thought = self._messages[message_id] = ReasoningMessage(id=message_id, content="")
        return thought

    def _call(self, event: ToolCallStartEvent) -> None:
        call = ToolCall(id=event.tool_call_id, function=FunctionCall(name=event.tool_call_name, arguments=""))
        self._calls[event.tool_call_id] = call
        answer = self._answer(event.parent_message_id or event.tool_call_id)
        answer.tool_calls = [*(answer.tool_calls or []), call]


def trimmed(messages: Sequence[Message], *, max_messages: int, max_bytes: int) -> list[Message]:
    """The newest messages within both bounds, beginning with a question, so that no answer stands without its own."""
    kept: list[Message] = []
    size = 0
    for message in reversed(messages):
        size += len(message.model_dump_json(by_alias=True))
        if len(kept) == max_messages or size > max_bytes:
            break
        kept.append(message)
    kept.reverse()
    first = next((index for index, message in enumerate(kept) if isinstance(message, UserMessage)), len(kept))
    return kept[first:]
