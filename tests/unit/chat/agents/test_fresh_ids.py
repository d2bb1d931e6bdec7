from __future__ import annotations

from ag_ui.core import (
    AssistantMessage,
    BaseEvent,
    CustomEvent,
    FunctionCall,
    ReasoningMessageContentEvent,
    ReasoningMessageStartEvent,
    ReasoningStartEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    ToolCall,
    ToolCallArgsEvent,
    ToolCallResultEvent,
    ToolCallStartEvent,
)

from doorward.chat.agents.fresh_ids import FreshIds

HISTORY = [AssistantMessage(id="m", tool_calls=[ToolCall(id="c", function=FunctionCall(name="f", arguments=""))])]


def renamed(*events: BaseEvent) -> tuple[BaseEvent, ...]:
    ids = FreshIds(HISTORY)
    for event in events:
        ids.rename(event)
    return events


def test_what_is_new_keeps_its_id() -> None:
    start, content, end = renamed(
        TextMessageStartEvent(message_id="n"),
        TextMessageContentEvent(message_id="n", delta="x"),
        TextMessageEndEvent(message_id="n"),
    )
    assert {event.message_id for event in (start, content, end)} == {"n"}  # type: ignore[attr-defined]


def test_what_was_there_before_gets_another_in_all_its_events() -> None:
    message, call, arguments, result = renamed(
        TextMessageStartEvent(message_id="m"),
        ToolCallStartEvent(tool_call_id="c", tool_call_name="f", parent_message_id="m"),
        ToolCallArgsEvent(tool_call_id="c", delta="{}"),
        ToolCallResultEvent(message_id="m", tool_call_id="c", content="1"),
    )
    assert isinstance(message, TextMessageStartEvent)
    assert isinstance(call, ToolCallStartEvent)
    assert isinstance(arguments, ToolCallArgsEvent)
    assert isinstance(result, ToolCallResultEvent)
    assert message.message_id not in {"m", result.message_id}
    assert call.parent_message_id == message.message_id
    assert call.tool_call_id == arguments.tool_call_id == result.tool_call_id != "c"


def test_a_second_one_of_the_same_run_is_another_one() -> None:
    first, _, second, content = renamed(
        ToolCallStartEvent(tool_call_id="call_0", tool_call_name="f"),
        ToolCallResultEvent(message_id="r", tool_call_id="call_0", content="1"),
        ToolCallStartEvent(tool_call_id="call_0", tool_call_name="f"),
        ToolCallArgsEvent(tool_call_id="call_0", delta="{}"),
    )
    assert isinstance(first, ToolCallStartEvent)
    assert isinstance(second, ToolCallStartEvent)
    assert isinstance(content, ToolCallArgsEvent)
    assert first.tool_call_id == "call_0" != second.tool_call_id == content.tool_call_id


def test_a_thought_shares_the_id_of_its_reasoning_and_no_other() -> None:
    reasoning, thought, content, again, text = renamed(
        ReasoningStartEvent(message_id="m"),
        ReasoningMessageStartEvent(message_id="m"),
        ReasoningMessageContentEvent(message_id="m", delta="hm"),
        ReasoningMessageStartEvent(message_id="m"),
        TextMessageStartEvent(message_id="m"),
    )
    ids = [event.message_id for event in (reasoning, thought, content, again, text)]  # type: ignore[attr-defined]
    assert ids[0] == ids[1] == ids[2] != "m"
    assert len({"m", ids[0], ids[3], ids[4]}) == 4


def test_events_without_an_id_pass() -> None:
    event = CustomEvent(name="n", value=1)
    assert renamed(event) == (CustomEvent(name="n", value=1),)
