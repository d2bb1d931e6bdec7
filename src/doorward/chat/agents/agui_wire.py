"""From what an AG-UI agent sends to the events of a run, as this chat takes them. Pure.

Taken out: the start and the end of the run (the caller's own), snapshots of the messages (the thread is ours), what a front end
has no use for, and what a newer protocol added. Written out: the chunk events, into start, content and end. Renamed: the
`THINKING_*` events of the protocol before 1.0. Made whole: characters that were cut in two.

Source: https://docs.ag-ui.com/concepts/events
"""

from __future__ import annotations

import json
import re
import secrets
from typing import TYPE_CHECKING, Any

from ag_ui.core import (
    BaseEvent,
    Event,
    EventType,
    ReasoningMessageChunkEvent,
    ReasoningMessageContentEvent,
    ReasoningMessageEndEvent,
    ReasoningMessageStartEvent,
    RunErrorEvent,
    RunFinishedEvent,
    TextMessageChunkEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    ToolCallArgsEvent,
    ToolCallChunkEvent,
    ToolCallEndEvent,
    ToolCallStartEvent,
)
from pydantic import TypeAdapter, ValidationError

from doorward.chat.agents.halves import whole
from doorward.chat.agents.port import AgentError, AgentFault

if TYPE_CHECKING:
    from collections.abc import Callable

_EVENTS: TypeAdapter[BaseEvent] = TypeAdapter(Event)
_KNOWN = {kind.value for kind in EventType}
_DROPPED = frozenset(
    {
        EventType.RUN_STARTED,
        EventType.RAW,
        EventType.MESSAGES_SNAPSHOT,
        EventType.REASONING_ENCRYPTED_VALUE,
        EventType.SUBAGENT_STARTED,
        EventType.SUBAGENT_FINISHED,
        EventType.SUBAGENT_ERROR,
    }
)
_BEFORE_1_0 = {
    "THINKING_START": "REASONING_START",
    "THINKING_TEXT_MESSAGE_START": "REASONING_MESSAGE_START",
    "THINKING_TEXT_MESSAGE_CONTENT": "REASONING_MESSAGE_CONTENT",
    "THINKING_TEXT_MESSAGE_END": "REASONING_MESSAGE_END",
    "THINKING_END": "REASONING_END",
}
SHOWN_CHARACTERS = 300
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")
"""Escaped, or in the bytes themselves, where Python's reader lets it pass. It may be one of a pair."""
_GOES_ON = ("_CONTENT", "_ARGS", "_CHUNK")
"""Kinds of events whose delta may end in the middle of a character."""


class AguiWire:
    """Reads the events of one run. `finished` once the agent has said that it is."""

    def __init__(self) -> None:
        self.finished = False
        self._chunk: tuple[str, str] | None = None
        """Kind and id of the part that chunks have opened."""
        self._thinking = ""

    def read(self, content: bytes) -> list[BaseEvent]:
        """The events that one event of the wire stands for. A delta may end in the middle of a character.

        Raises:
            AgentError: it is no event, or says that the agent failed.
        """
        event = self._decoded(content)
        match event:
            case None:
                return []
            case RunErrorEvent():
                why = f"the agent says: {event.message[:SHOWN_CHARACTERS]} (code {event.code})"
                raise AgentError(AgentFault.FAILED, why, mend="see the agent's own log")
            case RunFinishedEvent():
                return self._finish(event)
            case TextMessageChunkEvent() | ReasoningMessageChunkEvent() | ToolCallChunkEvent():
                return self._written_out(event)
            case TextMessageStartEvent():
                event.role = event.role or "assistant"  # front ends before 1.0 insist on it
        return [*self._closed(), event]

    def _decoded(self, content: bytes) -> BaseEvent | None:
        try:
            fields = json.loads(content)
            kind = str(fields["type"])
            if _SURROGATE.search(content):
                fields = _whole(kind, fields)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise AgentError(AgentFault.FAILED, "the agent sent something that is no AG-UI event") from error
        if kind in _BEFORE_1_0:
            fields = self._as_reasoning(kind, fields)
        elif kind not in _KNOWN:
            return None
        try:
            event = _EVENTS.validate_python(fields)
        except ValidationError as error:
            places = ", ".join(".".join(map(str, each["loc"])) for each in error.errors()[:3])
            raise AgentError(
                AgentFault.FAILED, f"the agent sent an event that is not as AG-UI says ({places})"
            ) from None
        event.raw_event = None
        return None if event.type in _DROPPED or getattr(event, "subagent_run_id", None) else event

    def _as_reasoning(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Those events had no ids: there was one line of thought at a time."""
        if kind == "THINKING_START" or not self._thinking:
            self._thinking = f"thinking-{secrets.token_hex(8)}"
        return {
            "type": _BEFORE_1_0[kind],
            "messageId": self._thinking,
            "delta": fields.get("delta", ""),
            "role": "reasoning",
        }

    def _finish(self, event: RunFinishedEvent) -> list[BaseEvent]:
        if event.outcome is not None and event.outcome.type == "interrupt":
            raise AgentError(
                AgentFault.FAILED,
                "the agent interrupts its run to ask for an approval, which this chat cannot give",
                mend="let its tools run without approval",
            )
        self.finished = True
        return self._closed()

    def _written_out(
        self, event: TextMessageChunkEvent | ReasoningMessageChunkEvent | ToolCallChunkEvent
    ) -> list[BaseEvent]:
        kind, given = _named(event)
        events: list[BaseEvent] = []
        if self._chunk is None or self._chunk[0] != kind or given not in {None, self._chunk[1]}:
            events = self._closed()
            if given is None:
                raise AgentError(AgentFault.FAILED, f"the agent sent a first {event.type.value} without an id")
            events.append(_start(event, given))
            self._chunk = kind, given
        if event.delta:
            events.append(_CONTENT[kind](self._chunk[1], event.delta))
        return events

    def _closed(self) -> list[BaseEvent]:
        if self._chunk is None:
            return []
        (kind, name), self._chunk = self._chunk, None
        return [_END[kind](name)]


_CONTENT: dict[str, Callable[[str, str], BaseEvent]] = {
    "text": lambda name, delta: TextMessageContentEvent(message_id=name, delta=delta),
    "thought": lambda name, delta: ReasoningMessageContentEvent(message_id=name, delta=delta),
    "call": lambda name, delta: ToolCallArgsEvent(tool_call_id=name, delta=delta),
}
_END: dict[str, Callable[[str], BaseEvent]] = {
    "text": lambda name: TextMessageEndEvent(message_id=name),
    "thought": lambda name: ReasoningMessageEndEvent(message_id=name),
    "call": lambda name: ToolCallEndEvent(tool_call_id=name),
}


def _whole(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    """All text in it made whole, but for a delta that may go on in the next event."""
    made: dict[str, Any] = json.loads(whole(json.dumps(fields, ensure_ascii=False)))
    return made | {"delta": fields["delta"]} if kind.endswith(_GOES_ON) and "delta" in fields else made


def _named(event: TextMessageChunkEvent | ReasoningMessageChunkEvent | ToolCallChunkEvent) -> tuple[str, str | None]:
    match event:
        case TextMessageChunkEvent():
            return "text", event.message_id
        case ReasoningMessageChunkEvent():
            return "thought", event.message_id
        case ToolCallChunkEvent():
            return "call", event.tool_call_id


def _start(event: TextMessageChunkEvent | ReasoningMessageChunkEvent | ToolCallChunkEvent, name: str) -> BaseEvent:
    match event:
        case TextMessageChunkEvent():
            return TextMessageStartEvent(message_id=name, role=event.role or "assistant")
        case ReasoningMessageChunkEvent():
            return ReasoningMessageStartEvent(message_id=name)
        case ToolCallChunkEvent():
            if event.tool_call_name is None:
                raise AgentError(AgentFault.FAILED, "the agent began a tool call without a name")
            return ToolCallStartEvent(
                tool_call_id=name, tool_call_name=event.tool_call_name, parent_message_id=event.parent_message_id
            )
