"""The order of AG-UI events within one run: what may come now, and what closes what is still open. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from ag_ui.core import (
    EventType,
    ReasoningEndEvent,
    ReasoningMessageEndEvent,
    StepFinishedEvent,
    TextMessageEndEvent,
    ToolCallEndEvent,
)

from doorward.errors import DoorwardError

if TYPE_CHECKING:
    from ag_ui.core import BaseEvent


class SequenceError(DoorwardError):
    """An agent sent an event that AG-UI's verifier would refuse at this place. The agent's bug."""


class Part(StrEnum):
    """What can be open in a run."""

    TEXT = "text message"
    TOOL = "tool call"
    REASONING = "reasoning"
    THOUGHT = "reasoning message"
    STEP = "step"


FIELD: Final = {
    Part.TEXT: "message_id",
    Part.TOOL: "tool_call_id",
    Part.REASONING: "message_id",
    Part.THOUGHT: "message_id",
    Part.STEP: "step_name",
}
"""The field that names the part, in every event about it."""

OPENS: Final = {
    EventType.TEXT_MESSAGE_START: Part.TEXT,
    EventType.TOOL_CALL_START: Part.TOOL,
    EventType.REASONING_START: Part.REASONING,
    EventType.REASONING_MESSAGE_START: Part.THOUGHT,
    EventType.STEP_STARTED: Part.STEP,
}
_NEEDS = {
    EventType.TEXT_MESSAGE_CONTENT: Part.TEXT,
    EventType.TOOL_CALL_ARGS: Part.TOOL,
    EventType.REASONING_MESSAGE_CONTENT: Part.THOUGHT,
}
CLOSES: Final = {
    EventType.TEXT_MESSAGE_END: Part.TEXT,
    EventType.TOOL_CALL_END: Part.TOOL,
    EventType.REASONING_END: Part.REASONING,
    EventType.REASONING_MESSAGE_END: Part.THOUGHT,
    EventType.STEP_FINISHED: Part.STEP,
}
_ANYWHERE = frozenset(
    {
        EventType.TOOL_CALL_RESULT,
        EventType.STATE_SNAPSHOT,
        EventType.STATE_DELTA,
        EventType.ACTIVITY_SNAPSHOT,
        EventType.ACTIVITY_DELTA,
        EventType.CUSTOM,
    }
)


class RunSequence:
    """Holds the open parts of one run, between its `RUN_STARTED` and its end."""

    def __init__(self) -> None:
        self._open: dict[tuple[Part, str], None] = {}

    def admit(self, event: BaseEvent) -> None:
        """Take the next event of the agent.

        Raises:
            SequenceError: the event may not come here; nothing has changed.
        """
        kind = event.type
        if part := OPENS.get(kind):
            self._start(part, _name(event, part))
        elif part := _NEEDS.get(kind):
            self._require(part, _name(event, part))
        elif part := CLOSES.get(kind):
            self._require(part, _name(event, part))
            del self._open[part, _name(event, part)]
        elif kind not in _ANYWHERE:
            raise SequenceError(f"{kind.value} may not come from an agent")

    def closing(self) -> list[BaseEvent]:
        """The events that close what is open, innermost first. Nothing is open afterwards."""
        events = [_end(part, name) for part, name in reversed(self._open)]
        self._open.clear()
        return events

    def _start(self, part: Part, name: str) -> None:
        if (part, name) in self._open:
            raise SequenceError(f"this {part} is already open")
        self._open[part, name] = None

    def _require(self, part: Part, name: str) -> None:
        if (part, name) not in self._open:
            raise SequenceError(f"this {part} is not open")


def _name(event: BaseEvent, part: Part) -> str:
    return str(getattr(event, FIELD[part]))


def _end(part: Part, name: str) -> BaseEvent:
    match part:
        case Part.TEXT:
            return TextMessageEndEvent(message_id=name)
        case Part.TOOL:
            return ToolCallEndEvent(tool_call_id=name)
        case Part.REASONING:
            return ReasoningEndEvent(message_id=name)
        case Part.THOUGHT:
            return ReasoningMessageEndEvent(message_id=name)
        case Part.STEP:
            return StepFinishedEvent(step_name=name)
