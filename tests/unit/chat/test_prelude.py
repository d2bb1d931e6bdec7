from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from ag_ui.core import (
    BaseEvent,
    ReasoningEndEvent,
    ReasoningMessageStartEvent,
    ReasoningStartEvent,
    RunStartedEvent,
    StepFinishedEvent,
    StepStartedEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallStartEvent,
)

from doorward.chat.envelope import Envelope, event_json
from doorward.chat.prelude import prelude, wrapping

STARTED = RunStartedEvent(thread_id="t", run_id="r")
TEXT = TextMessageStartEvent(message_id="m")
TOOL = ToolCallStartEvent(tool_call_id="c", tool_call_name="look")
THINKING = ReasoningStartEvent(message_id="m")
THOUGHT = ReasoningMessageStartEvent(message_id="m", role="reasoning")
STEP = StepStartedEvent(step_name="m")


def run(*events: BaseEvent) -> list[Envelope]:
    return [
        Envelope("t", "e", seq, seq, "r", 1, msgspec.Raw(event_json(event)))
        for seq, event in enumerate((STARTED, *events), 1)
    ]


def said(*events: BaseEvent) -> list[bytes]:
    return [event_json(event) for event in events]


def test_between_runs_nothing_is_said() -> None:
    assert prelude([]) == []


@pytest.mark.parametrize(
    ("events", "opened"),
    [
        ([], []),
        ([TEXT], [TEXT]),
        ([TEXT, TextMessageContentEvent(message_id="m", delta="x")], [TEXT]),
        ([TEXT, TextMessageEndEvent(message_id="m")], []),
        ([TOOL, ToolCallArgsEvent(tool_call_id="c", delta="{")], [TOOL]),
        ([TOOL, ToolCallEndEvent(tool_call_id="c")], []),
        ([THINKING, THOUGHT], [THINKING, THOUGHT]),
        ([THINKING, ReasoningEndEvent(message_id="m"), TEXT], [TEXT]),
        ([STEP, TOOL, TEXT], [STEP, TOOL, TEXT]),
        ([STEP, TEXT, StepFinishedEvent(step_name="m")], [TEXT]),
        ([TEXT, TextMessageEndEvent(message_id="m"), TEXT], [TEXT]),
    ],
)
def test_what_is_open_is_said_once_more_in_its_order(events: list[BaseEvent], opened: list[BaseEvent]) -> None:
    assert prelude(run(*events)) == said(STARTED, *opened)


def test_a_snapshot_is_wrapped_into_a_run() -> None:
    events: list[dict[str, Any]] = [json.loads(event) for event in wrapping("t", 7)]
    assert [(event["type"], event["runId"]) for event in events] == [
        ("RUN_STARTED", "snapshot:7"),
        ("RUN_FINISHED", "snapshot:7"),
    ]
