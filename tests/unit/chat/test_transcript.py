from __future__ import annotations

from ag_ui.core import (
    AssistantMessage,
    ReasoningMessage,
    ReasoningMessageContentEvent,
    ReasoningMessageStartEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallResultEvent,
    ToolCallStartEvent,
    ToolMessage,
    UserMessage,
)

from doorward.chat.transcript import Message, Transcript, trimmed


def test_folds_a_run_into_messages_in_their_order() -> None:
    transcript = Transcript(UserMessage(id="q", content="How?"))
    for event in (
        ReasoningMessageStartEvent(message_id="t"),
        ReasoningMessageContentEvent(message_id="t", delta="Let me "),
        ReasoningMessageContentEvent(message_id="t", delta="look."),
        ToolCallStartEvent(tool_call_id="c", tool_call_name="look"),
        ToolCallArgsEvent(tool_call_id="c", delta='{"a":'),
        ToolCallArgsEvent(tool_call_id="c", delta="1}"),
        ToolCallEndEvent(tool_call_id="c"),
        ToolCallResultEvent(message_id="res", tool_call_id="c", content="fine"),
        TextMessageStartEvent(message_id="a"),
        TextMessageContentEvent(message_id="a", delta="It is "),
        TextMessageContentEvent(message_id="a", delta="fine."),
        TextMessageEndEvent(message_id="a"),
    ):
        transcript.add(event)
    question, thought, call, result, answer = transcript.messages
    assert question == UserMessage(id="q", content="How?")
    assert thought == ReasoningMessage(id="t", content="Let me look.")
    assert isinstance(call, AssistantMessage)
    assert call.tool_calls is not None
    assert (call.tool_calls[0].function.name, call.tool_calls[0].function.arguments) == ("look", '{"a":1}')
    assert result == ToolMessage(id="res", content="fine", tool_call_id="c")
    assert answer == AssistantMessage(id="a", content="It is fine.")


def test_a_call_joins_the_message_that_it_belongs_to() -> None:
    transcript = Transcript(UserMessage(id="q", content="How?"))
    transcript.add(TextMessageStartEvent(message_id="a"))
    transcript.add(ToolCallStartEvent(tool_call_id="c", tool_call_name="look", parent_message_id="a"))
    assert [message.id for message in transcript.messages] == ["q", "a"]


def history(number: int) -> list[Message]:
    pairs = [
        (UserMessage(id=f"q{index}", content="?"), AssistantMessage(id=f"a{index}", content="!"))
        for index in range(number)
    ]
    return [message for pair in pairs for message in pair]


def test_keeps_the_newest_and_begins_with_a_question() -> None:
    kept = trimmed(history(10), max_messages=5, max_bytes=100_000)
    assert [message.id for message in kept] == ["q8", "a8", "q9", "a9"]


def test_keeps_within_the_bytes() -> None:
    long = [*history(1), UserMessage(id="long", content="x" * 1_000), AssistantMessage(id="a", content="y")]
    assert trimmed(long, max_messages=10, max_bytes=1_500) == long
    assert [message.id for message in trimmed(long, max_messages=10, max_bytes=1_110)] == ["long", "a"]
    assert trimmed(long, max_messages=10, max_bytes=500) == []
