"""What a run looks like, event by event."""

from __future__ import annotations

from typing import Any

import pytest

from doorward.cli.chat.scene import Kind, Piece, Scene, history
from doorward.client import Envelope

QUESTION = {"input": {"messages": [{"role": "user", "content": "first"}, {"role": "user", "content": "What\x1b?"}]}}


def event(kind: str, **fields: Any) -> Envelope:
    return Envelope(thread_id="t", epoch="e", seq_from=1, seq=1, run_id="r1", event={"type": kind, **fields})


def played(*events: Envelope) -> tuple[Scene, list[Piece]]:
    scene = Scene()
    return scene, [piece for each in events for piece in scene.take(each)]


def said(*pieces: str) -> list[Envelope]:
    return [
        event("TEXT_MESSAGE_START", messageId="m"),
        *(event("TEXT_MESSAGE_CONTENT", messageId="m", delta=piece) for piece in pieces),
        event("TEXT_MESSAGE_END", messageId="m"),
    ]


def test_a_whole_run() -> None:
    scene, pieces = played(
        event("RUN_STARTED", **QUESTION),
        event("REASONING_START"),
        event("REASONING_MESSAGE_CONTENT", delta="Hm, "),
        event("REASONING_MESSAGE_CONTENT", delta="let me\nsee."),
        event("REASONING_END"),
        event("TOOL_CALL_START", toolCallId="c", toolCallName="look"),
        event("TOOL_CALL_ARGS", toolCallId="c", delta='{"where"'),
        event("TOOL_CALL_ARGS", toolCallId="c", delta=': "up"}'),
        event("TOOL_CALL_END", toolCallId="c"),
        event("TOOL_CALL_RESULT", toolCallId="c", content="{}"),
        *said("One ", "block.\n\nAnd", " another."),
        event("RUN_FINISHED"),
    )
    assert pieces == [
        Piece(Kind.QUESTION, "What?"),
        Piece(Kind.THOUGHT, "Hm, let me see."),
        Piece(Kind.TOOL, 'look {"where": "up"}'),
        Piece(Kind.ANSWER, "One block.\n\n"),
        Piece(Kind.ANSWER, "And another."),
    ]
    assert (scene.run_id, scene.growing, scene.now, scene.failed) == ("r1", "", "", False)


def test_what_goes_on_is_said_while_it_does() -> None:
    scene = Scene()
    seen = []
    for each in (
        event("RUN_STARTED"),
        event("REASONING_START"),
        event("REASONING_MESSAGE_CONTENT", delta="so\nthen"),
        event("TOOL_CALL_START", toolCallId="c", toolCallName="look"),
        *said("growing")[:2],
    ):
        scene.take(each)
        seen.append(scene.now)
    assert seen == ["waiting for the answer", "thinking", "thinking: so then", "using look", "answering", "answering"]
    assert scene.growing == "growing"


def test_text_before_a_tool_is_finished_by_it() -> None:
    _, pieces = played(
        *said("Let me look.")[:2], event("TOOL_CALL_START", toolCallId="c"), event("TOOL_CALL_END", toolCallId="c")
    )
    assert pieces == [Piece(Kind.ANSWER, "Let me look."), Piece(Kind.TOOL, "a tool")]


@pytest.mark.parametrize("fields", [{}, {"delta": None}, {"delta": 7, "messageId": []}, {"toolCallId": {}}])
@pytest.mark.parametrize(
    "kind", ["TEXT_MESSAGE_CONTENT", "REASONING_MESSAGE_CONTENT", "TOOL_CALL_ARGS", "TOOL_CALL_END", "STEP_STARTED"]
)
def test_an_event_of_another_make_breaks_nothing(kind: str, fields: dict[str, Any]) -> None:
    played(event("RUN_STARTED", input=fields), event(kind, **fields), event("RUN_FINISHED"))


def test_a_failed_run_says_so_and_keeps_what_was_said() -> None:
    error = event("RUN_ERROR", message="It broke.", code="agent_failed", metadata={"retryable": True})
    scene, pieces = played(event("RUN_STARTED"), *said("half")[:2], error)
    assert pieces == [Piece(Kind.ANSWER, "half"), Piece(Kind.FAILURE, "It broke. Ask again.")]
    assert (scene.failed, scene.now) == (True, "")


def test_a_stopped_run_says_so() -> None:
    scene, pieces = played(event("RUN_STARTED"), event("RUN_FINISHED", outcome={"type": "cancelled"}))
    assert pieces == [Piece(Kind.NOTE, "stopped")]
    assert scene.was_cancelled


def test_foreign_text_is_made_printable_everywhere() -> None:
    evil = "\x1b[2J"
    _, pieces = played(
        event("RUN_STARTED", input={"messages": [{"role": "user", "content": evil}]}),
        event("REASONING_MESSAGE_CONTENT", delta=evil),
        event("REASONING_END"),
        event("TOOL_CALL_START", toolCallId="c", toolCallName=evil),
        event("TOOL_CALL_ARGS", toolCallId="c", delta=evil),
        event("TOOL_CALL_END", toolCallId="c"),
        *said(evil),
        event("RUN_ERROR", message=evil),
    )
    assert len(pieces) == 5
    assert not any("\x1b" in piece.text for piece in pieces)


def test_history_is_the_last_turns() -> None:
    messages: list[Any] = []
    for number in range(1, 5):
        messages += [{"role": "user", "content": f"q{number}"}, {"role": "tool", "content": "{}"}]
        messages += [{"role": "assistant", "content": ""}, {"role": "assistant", "content": f"a{number}"}]
    shown = [piece.text for piece in history([*messages, "odd", {"role": "user", "content": [1]}], turns=2)]
    assert shown == ["q3", "a3", "q4", "a4"]
    assert history([], turns=2) == []
