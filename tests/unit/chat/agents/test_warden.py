from __future__ import annotations

import json
from typing import Any

import pytest
from tests.chat_support import ADMIN, FakeDrill, FakeInsight, Person, connection, decision, verify

from doorward.chat.agents.port import RunRequest
from doorward.chat.agents.warden import DELTA_CHARACTERS, Warden, deltas
from doorward.chat.envelope import event_json

INSIGHT = FakeInsight(records=[decision("d-alice", "alice")], views=[connection("d-alice", "alice")])


async def asked(message: str, who: Person | None = None) -> list[dict[str, Any]]:
    request = RunRequest("t", "r", message, who or Person())
    warden = Warden(INSIGHT, FakeDrill(), pace_seconds=0)
    events = [json.loads(event_json(event)) async for event in warden.run(request)]
    verify([{"type": "RUN_STARTED"}, *events, {"type": "RUN_FINISHED"}])
    return events


def answer(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")


@pytest.mark.parametrize(
    ("message", "tool", "arguments", "words"),
    [
        ("How is the auth service?", "service_state", {}, "is fine as far as I can see"),
        (
            "What did you decide in the last minutes?",
            "decision_statistics",
            {"window_seconds": 300.0},
            "42 opening handshakes",
        ),
        ("Why was my last decision made?", "explain_decision", {"which": "own"}, "Decision d-alice"),
        ("Why was I let in?", "explain_decision", {"which": "connection"}, "Decision d-alice"),
        ("explain zz99zz99", "explain_decision", {"decision_id": "zz99zz99"}, "I remember no decision zz99zz99"),
        ("Who is connected?", "who_is_connected", {"scope": "all"}, "You have 1 open connection"),
        ("Run a drill", "run_drill", {"fault": "silence"}, "needs the permission"),
        ("What if DNS hangs?", "run_drill", {"fault": "dns-stall"}, "needs the permission"),
    ],
)
async def test_looks_and_answers(message: str, tool: str, arguments: dict[str, Any], words: str) -> None:
    events = await asked(message)
    kinds = [event["type"] for event in events]
    order = [
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "TOOL_CALL_RESULT",
        "TEXT_MESSAGE_START",
    ]
    assert [kinds.index(kind) for kind in order] == sorted(kinds.index(kind) for kind in order)
    by_kind = {event["type"]: event for event in events}
    assert by_kind["TOOL_CALL_START"]["toolCallName"] == tool
    assert json.loads(by_kind["TOOL_CALL_ARGS"]["delta"]) == arguments
    assert isinstance(json.loads(by_kind["TOOL_CALL_RESULT"]["content"]), dict)
    assert words in answer(events)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("hello", "Hello!"),
        ("help", "I am the warden"),
        ("thanks", "You are welcome"),
        ("tell me a joke", "I did not understand"),
    ],
)
async def test_small_talk_needs_no_tool(message: str, words: str) -> None:
    events = await asked(message)
    assert {event["type"] for event in events} == {"TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END"}
    assert answer(events).startswith(words)


async def test_the_permission_is_read_when_the_tool_is_used() -> None:
    who = Person("root", frozenset({"admin"}), "d-root")
    events = Warden(INSIGHT, pace_seconds=0).run(RunRequest("t", "r", "Who is connected?", who))
    await anext(events)
    who.permissions = frozenset()
    rest = [json.loads(event_json(event)) async for event in events]
    assert "needs the permission" in answer(rest)
    assert "1 connection is open, by 1 person" in answer(await asked("Who is connected?", ADMIN))


async def test_a_drill_for_an_admin() -> None:
    events = await asked("What if the auth service is down?", ADMIN)
    result = json.loads(next(event["content"] for event in events if event["type"] == "TOOL_CALL_RESULT"))
    assert (result["outcome"], result["fault"], result["held"]) == ("played", "refused", True)
    assert answer(events).startswith("I start another door")
    kinds = [event["type"] for event in events]
    assert kinds.index("TEXT_MESSAGE_END") < kinds.index("TOOL_CALL_START"), "the wait is announced"
    assert "84 opening handshakes in 1 scenario, 4 seconds: every rule held." in answer(events)


async def test_a_fault_that_cannot_be_played_here() -> None:
    assert "I know: silence, refused, dns-stall." in answer(await asked("drill: drip", ADMIN))


async def test_it_has_no_model_and_shows_no_reasoning() -> None:
    assert not [event for event in await asked("How is the auth service?") if event["type"].startswith("REASONING")]


def test_deltas_are_small_and_lose_nothing() -> None:
    text = "First line.\n- a list\n  with  spaces " + "x" * 100
    pieces = deltas(text)
    assert "".join(pieces) == text
    assert all(len(piece) <= DELTA_CHARACTERS for piece in pieces[:-1])
    assert deltas("") == []
