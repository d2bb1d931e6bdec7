from __future__ import annotations

import json
from typing import Any

import pytest
from tests.chat_support import verify

from doorward.chat.agents.agui_wire import AguiWire
from doorward.chat.agents.halves import Halves
from doorward.chat.agents.port import AgentError
from doorward.chat.envelope import event_json


def read(*events: dict[str, Any]) -> list[dict[str, Any]]:
    """With halves of characters joined, as `gathered` does it behind the wire."""
    wire, halves = AguiWire(), Halves()
    given = [out for event in events for each in wire.read(json.dumps(event).encode()) for out in halves.join(each)]
    return [json.loads(event_json(event)) for event in given]


FINISHED = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}


def test_what_is_the_callers_own_is_taken_out() -> None:
    wire = AguiWire()
    for event in (
        {"type": "RUN_STARTED", "threadId": "t", "runId": "r"},
        {"type": "MESSAGES_SNAPSHOT", "messages": []},
        {"type": "RAW", "event": {}},
        {"type": "REASONING_ENCRYPTED_VALUE", "subtype": "message", "entityId": "m", "encryptedValue": "x"},
        {"type": "SOMETHING_OF_2030", "x": 1},
        {"type": "TEXT_MESSAGE_START", "messageId": "m", "subagentRunId": "s"},
    ):
        assert wire.read(json.dumps(event).encode()) == []
    assert not wire.finished
    assert wire.read(json.dumps(FINISHED).encode()) == []
    assert wire.finished


def test_the_rest_passes_without_its_raw_event() -> None:
    events = read(
        {"type": "TEXT_MESSAGE_START", "messageId": "m", "rawEvent": {"secret": 1}},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "hi"},
        {"type": "STATE_SNAPSHOT", "snapshot": {"a": 1}},
    )
    assert events == [
        {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "hi"},
        {"type": "STATE_SNAPSHOT", "snapshot": {"a": 1}},
    ]


def test_chunks_become_whole_parts() -> None:
    events = read(
        {"type": "REASONING_MESSAGE_CHUNK", "messageId": "r", "delta": "hm"},
        {"type": "TEXT_MESSAGE_CHUNK", "messageId": "a", "role": "assistant", "delta": "one "},
        {"type": "TEXT_MESSAGE_CHUNK", "delta": "two"},
        {"type": "TEXT_MESSAGE_CHUNK", "messageId": "b", "delta": "three"},
        {"type": "TOOL_CALL_CHUNK", "toolCallId": "c", "toolCallName": "f", "parentMessageId": "b"},
        {"type": "TOOL_CALL_CHUNK", "toolCallId": "c", "delta": "{}"},
        {"type": "TOOL_CALL_RESULT", "messageId": "x", "toolCallId": "c", "content": "1"},
        {"type": "TEXT_MESSAGE_CHUNK", "messageId": "d", "delta": "four"},
        FINISHED,
    )
    verify([{"type": "RUN_STARTED"}, *events, {"type": "RUN_FINISHED"}])
    kinds = [event["type"] for event in events]
    assert kinds.count("TEXT_MESSAGE_START") == 3
    assert [event["delta"] for event in events if "delta" in event] == ["hm", "one ", "two", "three", "{}", "four"]
    assert kinds.index("TOOL_CALL_END") < kinds.index("TOOL_CALL_RESULT")


def test_thinking_of_the_protocol_before_1_0_is_reasoning() -> None:
    events = read(
        {"type": "THINKING_START"},
        {"type": "THINKING_TEXT_MESSAGE_START"},
        {"type": "THINKING_TEXT_MESSAGE_CONTENT", "delta": "hm"},
        {"type": "THINKING_TEXT_MESSAGE_END"},
        {"type": "THINKING_END"},
    )
    verify([{"type": "RUN_STARTED"}, *events, {"type": "RUN_FINISHED"}])
    assert len({event["messageId"] for event in events}) == 1
    assert events[2]["delta"] == "hm"


CUT = [{"delta": "Done \ud83d"}, {"delta": "\ude00 all well"}]


@pytest.mark.parametrize(
    "events",
    [
        [
            {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
            *({"type": "TEXT_MESSAGE_CONTENT", "messageId": "m"} | part for part in CUT),
            {"type": "TEXT_MESSAGE_END", "messageId": "m"},
        ],
        [
            {"type": "REASONING_MESSAGE_START", "messageId": "m", "role": "reasoning"},
            *({"type": "REASONING_MESSAGE_CONTENT", "messageId": "m"} | part for part in CUT),
            {"type": "REASONING_MESSAGE_END", "messageId": "m"},
        ],
        [{"type": "THINKING_TEXT_MESSAGE_CONTENT"} | part for part in CUT],
        [
            {"type": "TOOL_CALL_START", "toolCallId": "m", "toolCallName": "f"},
            *({"type": "TOOL_CALL_ARGS", "toolCallId": "m"} | part for part in CUT),
            {"type": "TOOL_CALL_END", "toolCallId": "m"},
        ],
        [{"type": "TEXT_MESSAGE_CHUNK", "messageId": "m"} | part for part in CUT] + [FINISHED],
        [{"type": "TOOL_CALL_CHUNK", "toolCallId": "m", "toolCallName": "f"} | part for part in CUT] + [FINISHED],
    ],
)
def test_a_character_that_was_cut_in_two_is_whole(events: list[dict[str, Any]]) -> None:
    deltas = [event["delta"] for event in read(*events) if "delta" in event]
    assert deltas == ["Done ", "\U0001f600 all well"]


def test_half_a_character_is_none() -> None:
    events = read(
        {"type": "TEXT_MESSAGE_START", "messageId": "m\udc00"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m\udc00", "delta": "\ude00 well \ud83d"},
        {"type": "TEXT_MESSAGE_END", "messageId": "m\udc00"},
        {"type": "TEXT_MESSAGE_CHUNK", "messageId": "n", "delta": "\ud83d"},
        {"type": "CUSTOM", "name": "\ud83d", "value": {"\ud83d": ["\ude00", "\ud83d\ude00"]}, "delta": "\ud83d"},
        {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/a", "value": "\ud83d"}]},
    )
    lost = "\ufffd"
    assert [event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT"] == [
        f"{lost} well ",
        lost,
        lost,
    ]
    assert {event["messageId"] for event in events[:4]} == {f"m{lost}"}
    custom, state = events[-2:]
    assert custom == {"type": "CUSTOM", "name": lost, "value": {lost: [lost, "\U0001f600"]}, "delta": lost}
    assert state["delta"][0]["value"] == lost


def test_half_a_character_in_the_bytes_themselves() -> None:
    content = '{"type": "CUSTOM", "name": "\ud83d", "value": 1}'.encode("utf-8", "surrogatepass")
    (event,) = AguiWire().read(content)
    assert json.loads(event_json(event))["name"] == "\ufffd"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"hello", "no AG-UI event"),
        (b"[1]", "no AG-UI event"),
        (b"{}", "no AG-UI event"),
        (b"[" * 100_000, "no AG-UI event"),
        (b'{"type": "TEXT_MESSAGE_CONTENT", "messageId": "m"}', "not as AG-UI says"),
        (b'{"type": "TEXT_MESSAGE_CHUNK", "delta": "x"}', "without an id"),
        (b'{"type": "TOOL_CALL_CHUNK", "toolCallId": "c"}', "without a name"),
        (b'{"type": "RUN_ERROR", "message": "no luck", "code": "x"}', "no luck"),
        (
            b'{"type": "RUN_FINISHED", "threadId": "t", "runId": "r", "outcome": {"type": "interrupt", '
            b'"interrupts": [{"id": "i", "reason": "tool_call"}]}}',
            "approval",
        ),
    ],
)
def test_what_is_no_answer_says_why(content: bytes, reason: str) -> None:
    with pytest.raises(AgentError, match=reason):
        AguiWire().read(content)
