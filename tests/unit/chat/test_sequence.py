from __future__ import annotations

import pytest
from ag_ui.core import (
    BaseEvent,
    CustomEvent,
    EventType,
    ReasoningEndEvent,
    ReasoningMessageContentEvent,
    ReasoningMessageStartEvent,
    ReasoningStartEvent,
    RunFinishedEvent,
    StepStartedEvent,
    TextMessageChunkEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallStartEvent,
)

from doorward.chat.sequence import RunSequence, SequenceError


def fed(*events: BaseEvent) -> RunSequence:
    sequence = RunSequence()
    for event in events:
        sequence.admit(event)
    return sequence


def test_closes_what_is_open_innermost_first() -> None:
    sequence = fed(
        StepStartedEvent(step_name="s"),
        ReasoningStartEvent(message_id="t"),
        ReasoningMessageStartEvent(message_id="t"),
        ReasoningMessageContentEvent(message_id="t", delta="hm"),
        ToolCallStartEvent(tool_call_id="c", tool_call_name="look"),
        TextMessageStartEvent(message_id="m"),
    )
    assert [event.type for event in sequence.closing()] == [
        EventType.TEXT_MESSAGE_END,
        EventType.TOOL_CALL_END,
        EventType.REASONING_MESSAGE_END,
        EventType.REASONING_END,
        EventType.STEP_FINISHED,
    ]
    assert sequence.closing() == []


def test_what_was_closed_is_not_closed_again() -> None:
    sequence = fed(
        TextMessageStartEvent(message_id="m"), TextMessageEndEvent(message_id="m"), CustomEvent(name="n", value=1)
    )
    assert sequence.closing() == []


@pytest.mark.parametrize(
    "event",
    [
        TextMessageContentEvent(message_id="other", delta="x"),
        TextMessageEndEvent(message_id="other"),
        TextMessageStartEvent(message_id="m"),
        ToolCallArgsEvent(tool_call_id="m", delta="x"),
        ToolCallEndEvent(tool_call_id="m"),
        ReasoningEndEvent(message_id="m"),
        ReasoningMessageContentEvent(message_id="m", delta="x"),
        RunFinishedEvent(thread_id="t", run_id="r"),
        TextMessageChunkEvent(message_id="n", delta="x"),
    ],
)
def test_refuses_what_may_not_come_here(event: BaseEvent) -> None:
    sequence = fed(TextMessageStartEvent(message_id="m"))
    with pytest.raises(SequenceError):
        sequence.admit(event)
    assert [end.type for end in sequence.closing()] == [EventType.TEXT_MESSAGE_END], "nothing has changed"
